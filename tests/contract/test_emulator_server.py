"""The emulator as a process: how it stops, and what it says when it cannot start."""

import io
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from google import genai

from gemini_batch.emulator.server import EmulatorError, EmulatorSettings, serve

SERVE = "from gemini_batch.emulator.server import serve, EmulatorSettings; serve(EmulatorSettings())"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_even_while_it_answers(number, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    url = json.loads(process.stdout.readline())["url"]
    lines = [{"key": f"r{i}", "request": {"contents": [{"parts": [{"text": str(i)}]}]}} for i in range(20_000)]
    content = io.BytesIO(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    with genai.Client(api_key="k", http_options={"base_url": url}) as client:
        source = client.files.upload(file=content, config={"mime_type": "jsonl"})
        client.batches.create(model="gemini-3.8-flash", src=source.name)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_given_storage_folder_is_used_and_kept(tmp_path):
    folder = tmp_path / "kept"
    serve_there = SERVE.replace("Settings()", f"Settings(), state=__import__('pathlib').Path({str(folder)!r})")
    process = subprocess.Popen([sys.executable, "-c", serve_there], stdout=subprocess.PIPE, text=True)
    url = json.loads(process.stdout.readline())["url"]
    with genai.Client(api_key="k", http_options={"base_url": url}) as client:
        client.files.upload(file=io.BytesIO(b"content"), config={"mime_type": "jsonl"})
    process.terminate()
    process.communicate(timeout=10)
    assert [path.read_bytes() for path in folder.glob("upload-*")] == [b"content"]


def test_a_taken_port_is_named_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"port {port} .*choose another port"):
            serve(EmulatorSettings(), port=port)
