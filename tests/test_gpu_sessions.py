"""Sessions on GPUs: the real pynvml on a stub library, real claims, real tmux."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nvml_stub import NvmlStub
from support import Box, poll

from tmuxevolve import claims

SAY = (
    "import json, os, sys, time; e = os.environ; p = sys.argv[1] + e['TMUXEVOLVE_WORKER'];"
    "open(p + '.t', 'w').write(json.dumps([e.get('CUDA_VISIBLE_DEVICES'),"
    " e.get('CUDA_DEVICE_ORDER')])); os.rename(p + '.t', p + '.json'); time.sleep(1000)"
)


def gpu_session(box: Box, **keys: Any) -> None:
    command = [sys.executable, "-c", SAY, f"{box.root}/said-"]
    gpus = {"use": "free", **keys.pop("gpus", {})}
    box.session(**{"command": command, "cpu_slots": 0, "gpus": gpus, **keys})


def said(box: Box, count: int) -> dict[str, list[str]]:
    """Return what each trainer saw, by window name."""
    files = poll(lambda: (f := list(box.root.glob("said-*.json"))) and len(f) >= count and f)
    return {
        path.name.removeprefix("said-").rpartition("-")[0]: json.loads(path.read_text())
        for path in files
    }


def test_every_free_gpu_gets_a_window_with_its_index(
    box: Box, stub: NvmlStub, busy_pid: int
) -> None:
    lines = [f"gpu uuid={uuid}" for uuid in stub.uuids]
    lines[0] += f" used=auto procs={busy_pid}:642"
    lines[3] += " error=15"
    lines[5] += " mode=2"
    lines[6] += " used=9000"
    stub.write(lines)
    gpu_session(box)
    done = box.cli("start")
    assert done.returncode == 0, done
    assert f"not used: 0: pid {busy_pid} (" in done.stdout
    assert "sleep, 642 MiB) (to use it: gpus.ignore_processes: [sleep])" in done.stdout
    assert "not used: 3: NVML: GPU is lost" in done.stdout
    assert "not used: 5: compute mode is prohibited" in done.stdout
    assert "not used: 6: 8.8 GiB in use" in done.stdout
    assert said(box, 4) == {f"gpu{i}": [str(i), "PCI_BUS_ID"] for i in (1, 2, 4, 7)}
    windows = box.status()
    assert {w["index"]: w["uuid"] for w in windows.values()} == {
        i: stub.uuids[i] for i in (1, 2, 4, 7)
    }
    box.tmux("select-window", "-t", "=demo:4")
    assert sorted(u for u in claims.held() if u in stub.uuids) == [
        stub.uuids[i] for i in (1, 2, 4, 7)
    ]
    box.cli("stop")
    assert not [u for u in claims.held() if u in stub.uuids]


def test_nothing_free_says_why_for_each_gpu(box: Box, stub: NvmlStub, busy_pid: int) -> None:
    stub.write([f"gpu uuid={u} procs={busy_pid}:900 used=900" for u in stub.uuids[:2]])
    gpu_session(box)
    done = box.cli("start")
    assert done.returncode == 3
    assert done.stdout.count("not used: ") == 2
    assert box.cli("start", "--dry-run").returncode == 3


def test_newly_freed_gpus_are_filled(box: Box, stub: NvmlStub) -> None:
    other = subprocess.Popen(["sleep", "1000"])
    stub.write(
        [f"gpu uuid={stub.uuids[0]}", f"gpu uuid={stub.uuids[1]} used=auto procs={other.pid}:900"]
    )
    gpu_session(box)
    assert box.cli("start").returncode == 0
    assert sorted(box.status()) == ["gpu0"]
    other.kill()
    other.wait()
    again = box.cli("start")
    assert "already running, left alone: gpu0" in again.stdout
    assert sorted(box.status()) == ["gpu0", "gpu1"]


def test_chosen_gpus_only(box: Box, stub: NvmlStub) -> None:
    gpu_session(box)
    assert box.cli("start", "--gpus", f"2,{stub.uuids[5]}").returncode == 0
    assert sorted(box.status()) == ["gpu2", "gpu5"]
    wrong = box.cli("start", "--gpus", "9")
    assert wrong.returncode == 2
    assert "there is no GPU 9; this machine has 0, 1, 2, 3, 4, 5, 6, 7" in wrong.stderr


def test_mig_instances_by_uuid(box: Box, stub: NvmlStub) -> None:
    tag = stub.uuids[0].removeprefix("GPU-")
    stub.write(
        [
            f"gpu uuid={stub.uuids[0]}",
            f"gpu uuid={stub.uuids[1]} mig=1",
            f"mig parent=1 uuid=MIG-{tag}-a",
            f"mig parent=1 uuid=MIG-{tag}-b",
        ]
    )
    gpu_session(box)
    assert box.cli("start").returncode == 0
    assert said(box, 3) == {
        "gpu0": ["0", "PCI_BUS_ID"],
        "gpu1-0": [f"MIG-{tag}-a", "PCI_BUS_ID"],
        "gpu1-1": [f"MIG-{tag}-b", "PCI_BUS_ID"],
    }
    windows = box.status()
    assert {w["slot"]: w["index"] for w in windows.values()} == {"0": 0, "1:0": 101, "1:1": 201}
    assert box.cli("stop", "1:1").returncode == 0
    assert sorted(box.status()) == ["gpu0", "gpu1-0"]


def test_visible_by_uuid_and_two_workers_per_gpu(box: Box, stub: NvmlStub) -> None:
    gpu_session(box, gpus={"use": [4], "visible": "uuid", "per_gpu": 2})
    assert box.cli("start").returncode == 0
    seen = [stub.uuids[4], "PCI_BUS_ID"]
    assert said(box, 2) == {"gpu4": seen, "gpu4-w1": seen}
    assert {w["index"] for w in box.status().values()} == {4, 104}
    assert len(claims.held()[stub.uuids[4]]) == 2
    assert box.cli("stop", "4").returncode == 0
    assert box.status() == {}


def test_a_second_worker_may_join_ours_on_a_shared_gpu(box: Box, stub: NvmlStub) -> None:
    gpu_session(box, gpus={"use": [0], "per_gpu": 2})
    box.cli("start")
    pids = [w["pid"] for w in box.status().values()]
    box.cli("stop", "0/1")
    stub.write([f"gpu uuid={stub.uuids[0]} used=auto procs={pids[0]}:5000"])
    assert box.cli("start").returncode == 0
    assert sorted(box.status()) == ["gpu0", "gpu0-w1"]


def test_the_worker_looks_again_under_its_claim(box: Box, stub: NvmlStub, busy_pid: int) -> None:
    """Between start's look and the trainer's start somebody takes the GPU."""
    stub.write([f"gpu uuid={stub.uuids[0]}", f"gpu uuid={stub.uuids[1]}"])
    gpu_session(box, stagger="5s")
    assert box.cli("start").returncode == 0
    stub.write(
        [f"gpu uuid={stub.uuids[0]}", f"gpu uuid={stub.uuids[1]} used=auto procs={busy_pid}:900"]
    )
    window = poll(lambda: (w := box.status()["gpu1"])["state"] == "failed" and w)
    assert window["exit_status"] == 3
    assert "GPU 1 was taken meanwhile: pid" in window["reason"]
    assert list(said(box, 1)) == ["gpu0"]


def test_index_is_resolved_from_the_uuid_at_the_last_moment(box: Box, stub: NvmlStub) -> None:
    stub.write([f"gpu uuid={stub.uuids[0]}", f"gpu uuid={stub.uuids[1]}"])
    gpu_session(box, stagger="5s")
    assert box.cli("start").returncode == 0
    # A GPU before it is gone: the second GPU is number 0 now.
    stub.write([f"gpu uuid={stub.uuids[1]}"])
    assert said(box, 2)["gpu1"] == ["0", "PCI_BUS_ID"]


def test_no_driver_means_cpu_slots_and_says_so(box: Box) -> None:
    gpu_session(box, cpu_slots=1)
    done = box.cli("start")
    assert done.returncode == 0
    assert "note: no NVIDIA driver on this machine" in done.stdout
    assert "using 1 CPU slots" in done.stdout or "using 1 CPU slot" in done.stdout
    assert said(box, 1) == {"cpu0": ["-1", "PCI_BUS_ID"]}


def test_no_driver_and_no_cpu_slots(box: Box) -> None:
    gpu_session(box)
    done = box.cli("start")
    assert done.returncode == 5
    assert "no NVIDIA driver" in done.stderr
    assert "cpu_slots" in done.stderr


def test_a_broken_driver_is_not_a_reason_to_train_on_the_cpu(box: Box, stub: NvmlStub) -> None:
    stub.write(["driver init_error=18", "gpu"])
    gpu_session(box, cpu_slots=2)
    done = box.cli("start")
    assert done.returncode == 5
    assert "version mismatch" in done.stderr
    assert "reboot" in done.stderr
    gpu_session(box, cpu_slots=1, gpus={"use": "none"})
    assert box.cli("start").returncode == 0


def test_gpus_lists_who_uses_them(box: Box, stub: NvmlStub, busy_pid: int) -> None:
    stub.write(
        [
            f'gpu uuid={stub.uuids[0]} name="NVIDIA L4" total=23034 used=100',
            f"gpu uuid={stub.uuids[1]} used=auto util=37 procs={busy_pid}:642",
        ]
    )
    text = box.cli("gpus").stdout
    assert "NVIDIA L4" in text
    assert "100 MiB / 22.5 GiB" in text
    assert "37%" in text
    assert f"{busy_pid}" in text
    assert "sleep 1000" in text
    assert "to use GPU 1 all the same: gpus.ignore_processes: [sleep]" in text
    found = box.json("gpus")
    assert [gpu["free"] for gpu in found["gpus"]] == [True, False]
    stub.write([f"gpu uuid={stub.uuids[0]} error=15"])
    assert "unusable  NVML: GPU is lost" in box.cli("gpus").stdout
    assert found["gpus"][1]["gpu"]["processes"][0]["memory"] == 642 << 20


def test_gpus_names_our_own_window(box: Box, stub: NvmlStub) -> None:
    gpu_session(box, gpus={"use": [1]})
    box.cli("start")
    text = box.cli("gpus").stdout
    assert "gpu1 of session demo" in text


def test_min_free_memory(box: Box, stub: NvmlStub) -> None:
    stub.write(
        [f"gpu uuid={stub.uuids[0]} total=8192 used=300", f"gpu uuid={stub.uuids[1]} total=40960"]
    )
    gpu_session(box, gpus={"min_free_memory": "20G"})
    done = box.cli("start")
    assert "not used: 0: 7.7 GiB free, 20.0 GiB wanted" in done.stdout
    assert sorted(box.status()) == ["gpu1"]


def test_twenty_starts_at_once_put_one_worker_on_each_gpu(box: Box, stub: NvmlStub) -> None:
    """Ten sessions, two starts each, eight GPUs, all at the same instant."""
    entry = {
        "command": ["sleep", "1000"],
        "trainer": "command",
        "gpus": {"use": "free"},
        "evolve": {"mode": "native"},
    }
    sessions = {f"s{i}": {**entry, "results": f"r{i}"} for i in range(10)}
    box.write(json.dumps({"sessions": sessions}))
    with ThreadPoolExecutor(20) as pool:
        runs = list(pool.map(lambda i: box.cli("start", f"s{i % 10}"), range(20)))
    assert not [run.stderr for run in runs if run.stderr]
    assert {run.returncode for run in runs} <= {0, 3}
    owners = {u: len(h) for u, h in claims.held().items() if u in stub.uuids}
    assert owners == dict.fromkeys(stub.uuids, 1)
    windows = [w for s in box.json("status") for w in s["windows"] if w["state"] == "running"]
    assert Counter(w["uuid"] for w in windows) == dict.fromkeys(stub.uuids, 1)
    assert box.cli("stop", "--all").returncode == 0
    assert not [u for u in claims.held() if u in stub.uuids]


def test_library_path_of_the_caller_reaches_a_worker_of_an_older_server(
    box: Box, stub: NvmlStub
) -> None:
    """The tmux server was started by a shell without the driver's library on its path."""
    env = {k: v for k, v in box.env.items() if k != "LD_LIBRARY_PATH"}
    argv = ["tmux", "-f", "/dev/null", "new-session", "-d", "-s", "old", "sleep", "1000"]
    subprocess.run(argv, env=env, check=True)
    gpu_session(box, gpus={"use": [3]})
    assert box.cli("start").returncode == 0
    assert said(box, 1) == {"gpu3": ["3", "PCI_BUS_ID"]}
