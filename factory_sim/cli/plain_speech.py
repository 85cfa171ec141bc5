"""How a command ends when it cannot do as asked: one plain line per problem, never a traceback.

Exit codes: 0 done; 1 the reader of the output left early; 2 the input cannot be used;
3 done, but for some runs of many, which failed; 130 interrupted (Ctrl-C).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
import typer.core

from factory_sim.errors import InputError


class PlainSpeech(typer.core.TyperGroup):
    """A group of commands whose expected failures are sentences on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn InputError, Ctrl-C and a closed pipe into their exit codes."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except InputError as error:
            for problem in error.problems:
                print(f"error: {problem}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader (`| head`) has seen enough. Python would complain again when it
            # flushes at exit, so what is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
