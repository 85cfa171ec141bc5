"""The racks of a site: how many of each row there are, by what the meter may provide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from factory_sim.errors import InputError, Problem
from factory_sim.factory.facility.design import design
from factory_sim.factory.site import Gpu, Rack, Server, server_model
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.signal import DAY_S
from factory_sim.scenario.site import Racks


def horizon_s(scenario: Scenario) -> float:
    """Return how far a design looks ahead: what is built must not depend on the hour of a run."""
    weather = scenario.site.weather
    ahead_s = DAY_S if weather is None else weather.repeats_s
    return max(ahead_s, scenario.duration + scenario.drain)


def connected_w(scenario: Scenario) -> float:
    """Return the watts that the site is connected for: its grid limit when it is highest."""
    return float(scenario.site.grid_limit.max_over(0.0, horizon_s(scenario)))


def own_w(scenario: Scenario, end_s: float) -> float:
    """Return the watts of own generation that are there at any time until `end_s`."""
    generation = scenario.site.generation
    return 0.0 if generation is None else float(generation.min_over(0.0, end_s))


def racks_of(scenario: Scenario, hottest: Ambient, problems: list[Problem]) -> list[Rack]:
    """Return the racks, with 'fill' resolved, and check their sum against the limit."""
    generated_w = own_w(scenario, horizon_s(scenario))
    limit_w = connected_w(scenario) + generated_w
    basis = scenario.provisioning.basis
    allowed_w = limit_w * scenario.provisioning.oversubscribe
    kinds: dict[int, Rack] = {}
    for index, row in enumerate(scenario.racks):
        try:
            kinds[index] = _rack(scenario, row, "", 0)
        except InputError as error:
            problems += [
                Problem(f"racks.{index}.{p.path if p.path in ROW else 'system'}", p.message)
                for p in error.problems
            ]
    if problems:
        return []

    def needed_w(counts: dict[int, int]) -> float:
        """Return what the meter must provide for so many racks of each row."""
        racks = [kinds[index] for index, count in counts.items() for _ in range(count)]
        return _needed_w(scenario, racks, hottest) if racks else 0.0

    counts = {i: row.count for i, row in enumerate(scenario.racks) if row.count != "fill"}
    try:
        for index, row in enumerate(scenario.racks):
            if row.count == "fill":
                needed_w(counts | {index: 1})  # says what is wrong if not even one can be
                counts[index] = _most(partial(_with, needed_w, counts, index), allowed_w)
                if not counts[index]:
                    problems.append(_no_rack(scenario, row, index, needed_w, counts, allowed_w))
        used_w = needed_w(counts)
    except InputError as error:
        problems += error.problems
        return []
    if used_w > allowed_w * (1 + 1e-9) and not problems:
        ratio = used_w / limit_w
        problems.append(
            Problem(
                "racks",
                f"need {used_w / 1e3:.1f} kW at the meter ({basis}), more than site.grid_limit "
                f"{'and own generation ' if generated_w else ''}({limit_w / 1e3:.1f} kW) "
                f"allows; have fewer racks, or ask for it with "
                f"'provisioning: {{oversubscribe: {ratio + 0.005:.2f}}}'",
            )
        )
    racks: list[Rack] = []
    gpus = 0
    for index, row in enumerate(scenario.racks):
        for _ in range(counts[index]):
            racks.append(_rack(scenario, row, f"rack-{len(racks)}", gpus))
            gpus += racks[-1].gpus
    return racks


def _needed_w(scenario: Scenario, racks: list[Rack], hottest: Ambient) -> float:
    """Return the watts at the meter for racks at their provisioned draw, in the hottest weather."""
    # A building for more racks is designed for them: ratings that are stated are checked later.
    building = design(scenario, racks, list(range(len(racks))), hottest)
    if scenario.provisioning.basis == "nameplate":
        return building.grid_w([rack.nameplate_w for rack in racks], hottest)
    peak_w = building.draw([rack.gpu_peak_w for rack in racks], hottest).load_w
    return peak_w * (1.0 + scenario.provisioning.margin)


def _with(
    needed_w: Callable[[dict[int, int]], float], counts: dict[int, int], index: int, count: int
) -> float:
    """Return what the meter must provide with `count` racks of one row beside the others.

    More than a stated rating or capacity carries can never be provided.
    """
    try:
        return needed_w(counts | {index: count})
    except InputError:
        return float("inf")


def _most(needed_w: Callable[[int], float], allowed_w: float) -> int:
    """Return the largest count whose need is allowed; the need grows with the count."""
    if needed_w(1) > allowed_w * (1 + 1e-9):
        return 0
    low = 1
    while needed_w(2 * low) <= allowed_w * (1 + 1e-9):
        low *= 2
    high = 2 * low - 1
    while low < high:
        middle = (low + high + 1) // 2
        if needed_w(middle) <= allowed_w * (1 + 1e-9):
            low = middle
        else:
            high = middle - 1
    return low


def _no_rack(
    scenario: Scenario,
    row: Racks,
    index: int,
    needed_w: Callable[[dict[int, int]], float],
    counts: dict[int, int],
    allowed_w: float,
) -> Problem:
    others = {key: count for key, count in counts.items() if key != index}
    used_w = needed_w(others)
    need_w = needed_w(others | {index: 1}) - used_w
    missing_w = (need_w + used_w - allowed_w) / scenario.provisioning.oversubscribe
    return Problem(
        f"racks.{index}.count",
        f"no rack fits: one {row.system} rack needs {need_w / 1e3:.1f} kW at the "
        f"meter ({scenario.provisioning.basis}), and {max(0.0, allowed_w - used_w) / 1e3:.1f} kW "
        f"are free; raise site.grid_limit by {missing_w / 1e3:.1f} kW, or "
        "take a smaller racks.servers_per_rack",
    )


ROW = ("gpu_power_limit", "gpu_clock", "liquid_share")
"""Fields of a row that a rack's own problems name; all others are of its system."""


def _rack(scenario: Scenario, row: Racks, name: str, first_gpu: int) -> Rack:
    """Return one rack of the row; its GPUs are numbered from `first_gpu` on."""
    system = scenario.facts.system(row.system)
    accelerator = scenario.facts.accelerator(system.accelerator)
    tdp_w, idle_w = accelerator.need("tdp"), accelerator.need("idle")
    limit_w = row.gpu_power_limit or tdp_w
    if not idle_w < limit_w <= tdp_w:
        raise InputError(
            Problem(
                "gpu_power_limit",
                f"must lie between {idle_w:g} W, the draw of {accelerator.name} at rest, and "
                f"{tdp_w:g} W, its limit as sold; not {limit_w:g} W",
            )
        )
    servers = []
    for number in range(row.servers_per_rack or system.servers_per_rack):
        gpus = []
        for slot in range(system.gpus_per_server):
            place = number * system.gpus_per_server + slot
            gpus.append(
                Gpu(
                    first_gpu + place,
                    f"{name}/server-{number}/gpu-{slot}",
                    name,
                    f"{name}/domain-{place // system.scaleup_gpus}",
                )
            )
        servers.append(Server(f"{name}/server-{number}", tuple(gpus)))
    if row.gpu_clock is not None:
        floor = scenario.facts.power_curve(accelerator.family).clock_floor.value
        if row.gpu_clock < floor:
            raise InputError(
                Problem(
                    "gpu_clock",
                    f"must be at least {floor:.0%}, the lowest useful clock of "
                    f"{accelerator.name}, not {row.gpu_clock:.0%}",
                )
            )
    enclosure = scenario.facts.enclosure(system.cooling)
    liquid = enclosure.liquid_share.value if row.liquid_share is None else row.liquid_share
    load = server_model(system, accelerator, enclosure).times(len(servers))
    clock = row.gpu_clock or 1.0
    rack = Rack(name, system, accelerator, enclosure, tuple(servers), limit_w, clock, liquid, load)
    boards = tdp_w * rack.gpus / rack.nameplate_w
    if row.liquid_share and row.liquid_share < boards:
        raise InputError(
            Problem(
                "liquid_share",
                f"cold plates sit on GPUs first, and those of {system.name} make {boards:.0%} of "
                f"its heat; give at least that, or 0 %, not {row.liquid_share:.0%}",
            )
        )
    return rack
