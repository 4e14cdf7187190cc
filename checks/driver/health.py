"""Device health, as reported by the vendor's own tools and libraries."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Phase, Row, Skip, Yield, check


@check(
    "driver.health",
    title="The vendor's own tools say that the device is well",
    measures={
        "faults": Measure(
            "1", better=Better.LOWER,
            meaning="Current faults for which the vendor's documents ask for this action.",
            title="No current fault asks for: {action}",
            why="What the vendor's own tools report of a device is seen by its users sooner or later.",
            remedy="Do what the rows of driver.health name: {action}.",
            action=Action.GATHER_EVIDENCE,
        ),
        "fatal_faults": Measure(
            "1", better=Better.LOWER,
            meaning="Faults with which the device must not be used before something is done about them.",
            title="The device has no fatal fault",
            why="A device that its vendor's tools call unusable ends a run, or gives wrong results without an error.",
            remedy="Drain the device and do what the rows of driver.health name: reset it, reboot the host, replace it.",
            action=Action.RESET_DEVICE,
        ),
        "unknown_codes": Measure(
            "1", better=Better.LOWER,
            meaning="Current fault codes, and words about health, that no public document explains.",
            title="Every current fault code is explained",
            why="A code without an explanation may mean anything.",
            remedy="Ask the vendor what the codes mean that the rows of driver.health name.",
            action=Action.CONTACT_VENDOR,
        ),
        "fields_read": Measure(
            "1", better=Better.HIGHER,
            meaning="Share of what can be said of a device's identity, state and health that the vendor's sources do say.",
            title="The state of the device can be read",
            why="What cannot be read of a device is noticed when it fails.",
            remedy="Make the vendor's management library and tools available to this user, in the container too.",
            action=Action.CHECK_CONFIG,
        ),
    },
    typical_s=2.0,
    limit_s=90.0,
    catches=("health", "management-library"),
    phase=Phase.LAST,
)
def health(accelerator: Accelerator) -> Iterator[Yield]:
    """Reads what the vendor's own libraries, tools, sysfs and logs say of the device's health.

    A device that its vendor's tools call sick fails its users sooner or later. Every source that is here is read in a
    process of its own: one that blocks or crashes costs itself. Rows name each field (health, fault codes, memory errors,
    links, throttling, versions) with its source, or the reason why there is none, and each fault with its action. Where
    neither health nor fault codes nor memory errors could be read, faults are not reported, but for fatal ones.

    Labels: `action` of `faults` (what is to be done about them).
    """
    from readiness import device_health

    reading = accelerator.reading()
    if reading is None:
        raise Skip("no library or tool of the vendor reports health here, or none is known for this device")
    found = device_health.judge(reading, timeline=accelerator.timeline)
    if not reading.sources and not found:
        raise Skip("; ".join(f"{name}: {reason}" for name, reason in reading.problems.items()))
    for name, field in reading.complete().fields.items():
        plain = field.value is None or isinstance(field.value, str | int | float)
        value = field.value if plain else str(field.value)
        yield Row({"field": name, "state": field.state.value, "value": value, "why": field.reason, "source": field.source})
    for name, reason in reading.problems.items():
        yield Row({"source": name, "state": "unreadable", "why": reason})
    for one in found:
        row = {"fault": one.text, "severity": one.severity.value, "action": one.action.value, "source": one.source}
        if one.at is not None and accelerator.timeline is not None:
            row["came"] = accelerator.timeline.describe(one.at)
        yield Row(row)
    yield Measurement("fields_read", reading.share_present)
    fatal = [one.text for one in found if one.severity is device_health.Severity.FATAL]
    if fatal or reading.health_is_known:
        yield Measurement("fatal_faults", len(fatal), about="; ".join(fatal)[:200] or None)
    if not reading.health_is_known:
        return
    yield Measurement("unknown_codes", sum(not one.known for one in found))
    for action in device_health.ACTIONS:
        own = [one.text for one in found if one.action is action]
        yield Measurement("faults", len(own), {"action": action.value}, about="; ".join(own)[:200] or None)
