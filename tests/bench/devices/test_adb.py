"""The real adb client, and a stand-in for its server and the board's daemon.

The stand-in speaks the protocols that both have (SERVICES.TXT and shell_protocol.h of adb's source), and runs
what it is asked for in a shell on this machine: no board, and nothing of another architecture.
"""

import contextlib
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.bench import devices
from edgec.bench.bundle import Bundle
from edgec.bench.devices import adb
from edgec.bench.measure.benchmark import benchmark
from edgec.bench.verify import verify
from edgec.errors import DeviceError
from edgec.targets import loader
from tests.bench.devices.sshd import eventually, gone

HOST = loader.load("host-int8")
SERIAL = "0123-456"
_VERSION = 41
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE = range(5)
_PACKET = struct.Struct("<BI")

pytestmark = pytest.mark.skipif(
    shutil.which("adb") is None, reason="adb is not installed: sudo apt install adb"
)


class StandIn(socketserver.BaseRequestHandler):
    """One connection of the client's."""

    request: socket.socket

    def handle(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._answer(self._read(int(self._read(4), 16)).decode())

    def _answer(self, asked: str) -> None:
        if asked == "host:version":
            self._okay(f"{_VERSION:04x}")
        elif asked.endswith("features"):
            self._okay("shell_v2,cmd")
        elif asked in ("host:transport-any", f"host:transport:{SERIAL}"):
            self.request.sendall(b"OKAY")
        elif asked in ("host:tport:any", f"host:tport:serial:{SERIAL}"):
            self.request.sendall(b"OKAY" + struct.pack("<Q", 1))
        elif asked.startswith("shell,v2"):
            self.request.sendall(b"OKAY")
            self._shell(asked.partition(":")[2])
            raise EOFError
        else:
            why = "device 'other' not found"
            self.request.sendall(f"FAIL{len(why):04x}{why}".encode())
            raise EOFError

    def _shell(self, command: str) -> None:
        """Run a command; when the client goes away its stdin ends, as the daemon's doing is."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            ["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
        ) as process:
            streams = ((process.stdout, _STDOUT), (process.stderr, _STDERR))
            threads = [threading.Thread(target=self._pass_on, args=each) for each in streams]
            for thread in threads:
                thread.start()
            feeder = threading.Thread(target=self._feed, args=(process.stdin,))
            feeder.start()
            for thread in threads:
                thread.join()
            code = process.wait()
            with contextlib.suppress(OSError):
                self.request.sendall(_PACKET.pack(_EXIT, 1) + bytes([code & 255]))
                self.request.shutdown(socket.SHUT_RDWR)
            feeder.join()

    def _feed(self, stdin) -> None:
        with stdin, contextlib.suppress(EOFError, OSError):
            while True:
                kind, size = _PACKET.unpack(self._read(_PACKET.size))
                content = memoryview(self._read(size))
                if kind == _CLOSE:
                    return
                while kind == _STDIN and content:
                    content = content[stdin.write(content) :]

    def _pass_on(self, stream, kind: int) -> None:
        with contextlib.suppress(OSError):
            while data := stream.read(1 << 15):
                self.request.sendall(_PACKET.pack(kind, len(data)) + data)
        while stream.read(1 << 15):
            pass

    def _okay(self, text: str) -> None:
        self.request.sendall(f"OKAY{len(text):04x}{text}".encode())
        raise EOFError  # this was all; a client waits for the end

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The far side's cache."""
    with Server(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.server_address[1]))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield tmp_path / "cache" / "edgec" / "programs"
        for serial in ("", SERIAL, "other"):
            adb._connection(serial).close()
        adb._connection.cache_clear()
        server.shutdown()


@pytest.mark.usefixtures("toy_network")
@pytest.mark.parametrize("name", ["adb", f"adb:{SERIAL}"])
def test_a_bundle_is_verified_and_measured_there(name: str, far: Path, local_bundle: Bundle) -> None:
    device = local_bundle.device(name)
    assert device.name == name
    assert verify(local_bundle, device).passed
    assert benchmark(local_bundle, device, runs=3).conditions["system"]


def test_large_files_go_both_ways(far: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat a >b; exit 3\n")
    content = os.urandom(3_000_000)
    done = devices.connect("adb", HOST).execute(program, [], {"a": content}, {"b": len(content)})
    assert (done.returncode, done.files["b"]) == (3, content)


def test_a_program_that_takes_too_long_is_ended_there(far: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid; sleep 1000; :\n")
    with pytest.raises(DeviceError, match=r"^'adb': the program did not end within 0\.5 s"):
        devices.connect("adb", HOST, 0.5).execute(program, [])
    assert eventually(lambda: gone(tmp_path / "pid") and not list(far.glob("run-*")))


def test_a_board_that_is_not_there_is_one_line(far: Path) -> None:
    with pytest.raises(DeviceError, match="'adb:other': device 'other' not found: 'adb devices' lists"):
        devices.connect("adb:other", HOST)


def test_a_serial_that_is_none_is_told() -> None:
    for serial in ("-e", "a b", "x;y"):
        with pytest.raises(DeviceError, match=r"write it as adb\[:SERIAL\]"):
            devices.connect(f"adb:{serial}", HOST)


def test_without_adb_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="adb is not installed: sudo apt install adb"):
        devices.connect("adb", HOST)
