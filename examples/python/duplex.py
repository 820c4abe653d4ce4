"""Request and response: `duplex.py server NAME` in one terminal, `duplex.py client NAME` in another."""

import sys

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory


def serve(name: str) -> None:
    """Answers each request with its text in capitals, until Enter is pressed."""

    def upper(request: zerobuffer.Frame) -> bytes:
        # What is raised here reaches the client as RequestFailedError; the server goes on.
        return bytes(request).decode().upper().encode()

    server = DuplexChannelFactory().create_immutable_server(name)
    server.on_error(lambda error: print(error, file=sys.stderr))
    server.start(upper)
    print(f"serving {name}; press Enter to stop", file=sys.stderr)
    sys.stdin.readline()
    server.stop()


def ask(name: str) -> None:
    """Asks three times and prints the answers."""
    with DuplexChannelFactory().create_client(name, connect_timeout_ms=10_000) as client:
        for text in ("hello", "shared", "memory"):
            with client.call(text.encode()) as response:
                print(f"{text} -> {bytes(response).decode()}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("server", "client"):
        sys.exit("usage: duplex.py server|client NAME")
    (serve if sys.argv[1] == "server" else ask)(sys.argv[2])
