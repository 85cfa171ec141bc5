"""Measuring the machine at hand, and writing what came of it as a catalogue entry.

Like weighing the goods before quoting them: what a datasheet promises is replaced by what this
board, with this driver, at the clocks it was found at, was seen to do.

The CUDA path has not been run on hardware yet. The tests drive the same code on a CPU, through
PyTorch, and a made-up device of known rates through the fits and the files.
"""
