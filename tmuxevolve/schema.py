"""The JSON Schema of a sessions file: from its types, with a text for every key.

Editors show the texts, complete the keys and mark mistakes. `tmuxevolve schema` prints it; the same
is in sessions.schema.json beside this file, where editors find it without a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec

from tmuxevolve.config import FILE_NAME, SessionEntry
from tmuxevolve.units import Duration, Size

INSTALLED = Path(__file__).with_name("sessions.schema.json")
"""The schema as a file, of this very version."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# As units.py reads them, in what all dialects of regular expressions understand.
_NUMBER = r"[0-9]{1,20}(\.[0-9]{1,20})?"
_SIZE = rf"^\s*{_NUMBER}\s*([kKmMgGtT]([iI]?[bB]?)|[bB])?\s*$"
_DURATION = rf"^\s*({_NUMBER}|({_NUMBER}([mM][sS]|[sSmMhHdD]))+)\s*$"
_LARGEST = 2**63 - 1
_LONGEST = 10 * 365 * 86_400
# As configfile.py checks them: what tmux would take for something else.
_NAME = r"^(?![-=$@%+!{~^ ])(?!.*[ ;]$)[^:.#\\$\u0000-\u001f\u007f-\u009f]+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

_SIZES = " 20G and 20GiB are powers of 1024, 20GB of 1000; a plain number is bytes."
_DURATIONS = " 30s, 2m, 1h30m; a plain number is seconds."

TEXTS: dict[str, dict[str, str]] = {
    "SessionEntry": {
        "workdir": "Where the command runs; it must exist. Relative to this file's folder, which is"
        " the default. ~ and $VAR are filled in.",
        "command": "The training command. As text: what you would paste into a terminal, over"
        " several lines if you like; ~/ and $VAR are filled in, but there is no shell (no &&, |,"
        " >). As a list: word for word. Without what sets results and GPU (--project, --name,"
        " --device): tmuxevolve adds it.",
        "trainer": "What the command is: yolov5, ultralytics, or command for any other program."
        " Left out, train.py and -m yolov5.train mean yolov5, `yolo ... train` means ultralytics.",
        "results": "The one directory that all windows share: evolve.csv, hyp_evolve.yaml,"
        " generations/. Made if it does not exist. Relative to this file's folder; ~ and $VAR are"
        " filled in.",
        "evolve": "How the hyperparameters evolve.",
        "gpus": "Which GPUs get a worker.",
        "cpu_slots": "Workers on a machine without an NVIDIA GPU, or with gpus.use: none. With 0"
        " that is an error.",
        "env": "Variables for the trainer, on top of those of the shell that runs start. Values are"
        " text as written: off stays off. ~ and $VAR are filled in.",
        "stagger": "Time between two windows' starts. Left out: 3s for yolov5 in native mode, else"
        " 0s." + _DURATIONS,
        "memory": "What a worker's whole process tree may take of the machine's RAM. Left out: no"
        " limit." + _SIZES,
        "min_free_memory": "RAM that each worker needs: start opens no more windows than the"
        " machine has room for. Left out: no minimum." + _SIZES,
        "restart": "What follows a training that failed, or a worker that was killed.",
        "stop": "How `tmuxevolve stop` ends a trainer.",
        "schedule": 'When workers may run, such as "22:00-07:00". Left out: always.',
        "overview": "true: a window `overview` in the session shows what `tmuxevolve top` shows.",
        "notify": "Who is told that the budget is spent, a window failed, or a generation is the"
        " best so far. Left out: nobody.",
        "multiplexer": "Where windows are opened: tmux or screen (GNU screen). Left out: tmux,"
        " screen where there is no tmux.",
        "launcher": "local: windows on this machine's GPUs. slurm: jobs, one for each worker, and a"
        " window here that follows each.",
        "slurm": "The jobs that launcher: slurm submits.",
    },
    "Evolve": {
        "mode": "cooperative: one study, shared by all windows. native: the trainer's own --evolve,"
        " in every window by itself.",
        "generations": "The budget. cooperative: of all windows, machines and restarts together."
        " native: of each window. Left out: what --evolve N in the command says, else 300.",
        "sampler": "How new hyps are drawn: yolov5 is v7.0's mutation of the best five; the others"
        ' but random need `pip install "tmuxevolve[optuna]"`.',
        "seed": "Of the draws: the same seed and the same order of results give the same hyps.",
        "space": "Overrides per hyp: lr0: {gain: 1, min: 0.0001, max: 0.02}, or mosaic: fixed. What"
        " is left out stays as it is in the trainer's own table.",
        "hyp": "The hyps to begin with, as a mapping or a YAML file in the workdir; for the"
        " trainers command and ultralytics. YOLOv5's are in the command's --hyp.",
        "fitness": "Where a program of trainer command leaves its fitness. YOLOv5 and Ultralytics"
        " say it themselves.",
        "standby": "The process of the next training loads Python and PyTorch while the current one"
        " trains, and then waits. For YOLOv5. Left out: on GPUs, unless memory is limited.",
        "storage": "The URL of a database that has the study, such as"
        " postgresql://me:$PASSWORD@host/name, for thousands of workers. Left out: the results"
        " directory has it.",
    },
    "Interval": {
        "gain": "How far one mutation may go; 0 keeps the hyp as it is.",
        "min": "The smallest value.",
        "max": "The largest value.",
    },
    "FitnessSource": {
        "file": "The file that the program writes into its generation's folder. Left out with a"
        " pattern: what the program printed.",
        "key": 'A value in a .json file, such as "val.map", or a column in a .csv one (its last'
        " row).",
        "pattern": "A regular expression, with one group; its last match counts.",
        "direction": "Which fitness is better: the larger (maximize) or the smaller (minimize).",
    },
    "GpuPolicy": {
        "use": "free: every free GPU. all: every GPU, whoever uses it (claimed ones stay out)."
        ' none: CPU slots. A list restricts to these: [0, 2, "1:0", "GPU-8f2c..."], each still only'
        " when it is free.",
        "max_memory_used": "A free GPU has at most this much memory in use." + _SIZES,
        "max_utilization": "A free GPU is utilised no more than so many percent. Left out: no"
        " limit.",
        "min_free_memory": "GPU memory that one worker needs. Left out: no minimum." + _SIZES,
        "ignore_processes": "Programs that may stay on a free GPU, by name or pattern: [Xorg,"
        ' "ollama*"]. Their memory does not count.',
        "per_gpu": "Workers on one GPU.",
        "leave_free": "So many of the machine's free GPUs stay free, for others.",
        "idle_for": "A GPU must have been free that long before a worker takes it. Left out: now is"
        " enough." + _DURATIONS,
        "watch": "true: go on looking, and open workers as GPUs become free, until the budget is"
        " spent.",
        "visible": "What CUDA_VISIBLE_DEVICES holds: NVML's index, or the uuid. MIG instances"
        " always go by UUID.",
    },
    "RestartPolicy": {
        "on": "failure: failed trainings are tried again, and a worker that was killed is followed"
        " by another. never: neither. always: as failure; in native mode the trainer also runs"
        " again when it has ended with 0.",
        "attempts": "cooperative: how often failed hyps are tried again before they are skipped."
        " native: how often the trainer is started again after failures, in all.",
        "backoff": "Wait before the next start; doubled with each failure in a row, ten minutes at"
        " most." + _DURATIONS,
        "max_consecutive_failures": "Then the window ends with a message, instead of burning the"
        " budget.",
    },
    "StopPolicy": {
        "signal": "The first signal, to the trainer alone.",
        "grace": "How long the trainer may take to end by itself; then its whole process tree gets"
        " SIGTERM and, 5 s later, SIGKILL." + _DURATIONS,
    },
    "SlurmJobs": {
        "workers": "How many jobs there are to be; each is one worker.",
        "partition": "sbatch's --partition. Left out: the cluster's default.",
        "account": "sbatch's --account.",
        "time": "sbatch's --time, such as 12:00:00. Before it is over the job gives its generation"
        " back and is queued again. Left out: the partition's default.",
        "gres": "sbatch's --gres, such as gpu:1: what one worker needs.",
        "constraint": "sbatch's --constraint: features that a node must have.",
        "extra": 'More of sbatch\'s options: ["--cpus-per-task=8", "--mem=32G"].',
    },
    "Notify": {
        "command": "A program to run, as text or list; {title}, {message} and {event} are filled"
        " in.",
        "urls": "Services by Apprise's URLs, such as ntfy://my-topic; `pip install"
        ' "tmuxevolve[notify]"`.',
        "on": "finished: the budget is spent. failed: a window has failed. best: a generation is"
        " the best so far.",
    },
}


def sessions_file() -> dict[str, Any]:
    """Return the schema, with the same text on every version of Python."""
    (entry,), parts = msgspec.json.schema_components([SessionEntry], schema_hook=_written)
    for kind in _structs(SessionEntry):
        _describe(parts[kind.__name__], kind)
    # What is written as a number or a word there is text to the trainer.
    env = parts[SessionEntry.__name__]["properties"]["env"]
    env["additionalProperties"] = {"type": ["string", "number", "boolean"]}
    env["propertyNames"] = {
        "pattern": _VARIABLE,
        "not": {"enum": ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"]},
    }
    return {
        "$schema": _DIALECT,
        "title": FILE_NAME,
        "description": "The sessions of tmuxevolve.",
        "type": "object",
        "properties": {
            "default": {
                "description": "The session that `tmuxevolve start` starts; not needed when there"
                " is only one.",
                "type": ["string", "null"],
            },
            "sessions": {
                "description": "The sessions by name: what `tmuxevolve start NAME` starts.",
                "type": "object",
                "propertyNames": {"pattern": _NAME, "maxLength": 64},
                "additionalProperties": {
                    **entry,
                    "description": "One tmux session with a window per GPU, all of them working on"
                    " one results directory.",
                },
                "minProperties": 1,
            },
        },
        "required": ["sessions"],
        "additionalProperties": False,
        "$defs": parts,
    }


def _written(kind: type) -> dict[str, Any]:
    """Return how a size or a duration may be written."""
    if kind is Size:
        return {
            "type": ["integer", "string"],
            "minimum": 0,
            "maximum": _LARGEST,
            "pattern": _SIZE,
            # What yaml-language-server shows, and others pass over.
            "patternErrorMessage": "expected a size such as 500MiB or 20G",
            "examples": ["500MiB", "20G"],
        }
    return {
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": _LONGEST,
        "pattern": _DURATION,
        "patternErrorMessage": "expected a duration such as 30s, 2m or 1h30m",
        "examples": ["30s", "2m"],
    }


def _describe(part: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Put the texts and the defaults into a struct's schema, and take out what is for us."""
    part.pop("title", None)
    part.pop("description", None)
    for field in msgspec.structs.fields(kind):
        written = part["properties"][field.encode_name]
        written["description"] = TEXTS[kind.__name__][field.encode_name]
        if "anyOf" in written:
            # Releases of msgspec order them differently.
            written["anyOf"].sort(key=lambda kind: kind.get("type") == "null")
        if written.get("default", 0) is None:
            # What no value means is in the text: an editor would fill in null.
            del written["default"]
        if field.default_factory in {msgspec.NODEFAULT, dict}:
            continue
        default = field.default_factory()
        if isinstance(default, (Size, Duration)):
            written["default"] = _short(default)


def _short(value: Size | Duration) -> str:
    return f"{value >> 20}MiB" if isinstance(value, Size) else f"{value:g}s"


def _structs(kind: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    """Return a struct and those that it is made of."""
    types = (field.type for field in msgspec.structs.fields(kind))
    inner = (_structs(part) for written in types for part in _parts(written))
    return {kind}.union(*inner)


def _parts(kind: Any) -> set[type[msgspec.Struct]]:
    """Return the structs in a type, such as those of a union."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {kind}
    return {struct for part in get_args(kind) for struct in _parts(part)}
