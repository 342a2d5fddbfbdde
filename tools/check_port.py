"""Say in one sentence when Dynat cannot listen on the port it was asked to: `python tools/check_port.py 8501`.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import socket
import sys


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of localhost now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def problem(text: str) -> str | None:
    """The sentence that says why this port cannot be used, or None."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        return f"PORT={text} is not a port: give a number from 1024 to 65535, such as PORT=8501."
    port = int(text)
    if is_free(port):
        return None
    if port < 1024:
        return f"Port {port} may not be used by this user: choose one above 1023, such as PORT=8501."
    other = next((p for p in range(port + 1, min(port + 100, 65536)) if is_free(p)), None)
    way_out = f"take another with PORT={other}" if other else "take another with PORT=..."
    return f"Port {port} is in use: close the program that listens there (another Dynat?), or {way_out}."


def main() -> int:
    """Exit status 1 and the sentence on stderr when the port cannot be used."""
    said = problem(sys.argv[1] if len(sys.argv) > 1 else "8501")
    if said:
        print(said, file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
