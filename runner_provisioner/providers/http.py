"""The HTTP that adapters stand on: kept connections, retries that never rent twice, pacing, records without secrets."""

from runner_provisioner._http import (
    Answer,
    CallMetrics,
    HttpSession,
    Pace,
    Plumbing,
    Retry,
    Tempo,
    error_of_status,
)

__all__ = ["Answer", "CallMetrics", "HttpSession", "Pace", "Plumbing", "Retry", "Tempo", "error_of_status"]
