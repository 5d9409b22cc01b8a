"""Owns whether this process makes spans: where the environment asks for it, and `hookd[otel]` is installed.

Rules: OpenTelemetry's own variables decide. OTEL_TRACES_EXPORTER names the exporter; an OTLP endpoint alone asks for
that one. OTEL_SDK_DISABLED, or the exporter `none`, switches it off. Without any of them nothing of it is imported.
Whatever is wrong with them is logged, and the daemon runs without spans: events do not depend on them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hookd.flow.ports import Log

if TYPE_CHECKING:
    from hookd.edge.open_telemetry import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def exporter_names(environ: Mapping[str, str]) -> list[str]:
    """Of those that the environment asks for, as plug-ins are called; none where it asks for none."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    asked = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not asked and not any(environ.get(name) for name in ENDPOINTS):
        return []
    names = [name.strip() for name in (asked or "otlp").split(",")]
    if "none" in names:
        return []
    return [_otlp(environ) if name == "otlp" else name for name in names if name]


def tracing_from(environ: Mapping[str, str], log: Log) -> "Tracing | None":
    """None where no spans are made."""
    names = exporter_names(environ)
    if not names:
        return None
    try:
        from hookd.edge import open_telemetry
    except ImportError as missing:
        wanted = "OTEL_TRACES_EXPORTER or an OTLP endpoint is set, and hookd[otel] is not installed"
        log("traces.off", level="warning", reason=f"{wanted}: {missing}")
        return None
    try:
        exporters = [open_telemetry.exporter(name) for name in names]
    except Exception as error:  # of a plug-in, by what the environment says: it may be anything
        log("traces.off", level="warning", reason=f"{type(error).__name__}: {error}")
        return None
    log("traces.on", exporters=names)
    return open_telemetry.Tracing(open_telemetry.provider(exporters))


def _otlp(environ: Mapping[str, str]) -> str:
    """The protocol's plug-in: http/protobuf is OTLP's default."""
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
