"""Conditions of a measurement, in words."""

from exporters.machine.cpu import CpuMoment, processor_list
from exporters.timing.latency import LatencyReport, ShapeLatency


def timing_conditions(latency: LatencyReport) -> list[str]:
    """Return threads, processors and governor, and for each shape the load and the clocks before and after."""
    subject = latency.subject
    threads = f"{subject.threads} thread{'' if subject.threads == 1 else 's'}"
    where = f" on processors {processor_list(latency.affinity)}" if latency.affinity else ""
    governor = subject.machine.governor or "not reported by this system"
    return [f"{threads}{where}, governor {governor}", *(_at(shape) for shape in latency.shapes if shape.cpu)]


def _at(shape: ShapeLatency) -> str:
    before, after = shape.cpu[0], shape.cpu[-1]
    parts = [f"load {before.load_1min:.2f} before, {after.load_1min:.2f} after"]
    parts.append(f"processors at {_clock(before)} before, {_clock(after)} after")
    if shape.clocks:
        shown = [f"{clock.sm_mhz} MHz" if clock.sm_mhz else "an unknown clock" for clock in shape.clocks]
        parts.append(f"GPU at {shown[0]} before, {shown[-1]} after")
    if shape.disturbance and shape.disturbance.waited_s is not None:
        parts.append(f"threads waited for a processor {shape.disturbance.waiting_share:.1%} of the time")
    if shape.disturbance and shape.disturbance.throttled_periods is not None:
        parts.append(f"stopped by the CPU quota in {shape.disturbance.throttled_periods} periods")
    return f"{shape.shape}: {'; '.join(parts)}"


def _clock(moment: CpuMoment) -> str:
    if moment.slowest_mhz is None or moment.fastest_mhz is None:
        return "an unknown clock"
    if moment.slowest_mhz == moment.fastest_mhz:
        return f"{moment.fastest_mhz:.0f} MHz"
    return f"{moment.slowest_mhz:.0f} to {moment.fastest_mhz:.0f} MHz"
