"""A training script as its author would write it, without any import of ours, which misbehaves as it is asked to."""

from __future__ import annotations

SCRIPT = """
import argparse, json, os, pathlib, signal, subprocess, sys, time
began = time.monotonic()
import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="good")
parser.add_argument("--noise", type=float, default=1.0)
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--slow", type=float, default=0.0)
parser.add_argument("--seed", type=int)
a = parser.parse_args()
job = json.load(open(os.environ["HARNESS_JOB"]))
work, mode = pathlib.Path(job["folder"]), a.mode
state = work / "state.json"
done = json.loads(state.read_text()) if state.exists() else 0
assert bool(done) <= job["resume"]
prompts = [json.loads(line) for line in open(job["prompts"], encoding="utf-8")]
print("begins after", done, flush=True)
reported = done


def save(*_):
    state.write_text(json.dumps(reported))
    sys.exit(143)


def draw(folder, noise):
    folder.mkdir(parents=True, exist_ok=True)
    for it in prompts:
        rng = np.random.default_rng([a.seed, it["seed"], len(it["caption"])])
        pixels = (200 + 40 * noise * rng.standard_normal((8, 8, 3))).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{it['index']:06d}.png")


signal.signal(signal.SIGTERM, save)
if mode == "program_error":
    raise ValueError("a wrong learning rate")
if mode == "out_of_memory":
    print("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"); sys.exit(1)
if mode == "diverged":
    print("the loss is infinite"); sys.exit(4)
if mode == "unasked_143":
    sys.exit(143)
if mode == "children":
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    pids = [subprocess.Popen(sleep, start_new_session=apart).pid for apart in (False, True)]
    (work / "pids.json").write_text(json.dumps(pids))
if mode == "fails_at_length":
    sys.stdout.write("x" * 3_000_000 + "\\n")
    with open(job["metrics"], "a") as out:
        out.write("no line of metrics\\n")
    sys.stdout.write("the reason, without an end of line"); sys.stdout.flush(); os._exit(7)
if mode == "deletes":
    import shutil; shutil.rmtree(work); sys.exit(0)
if mode == "deletes_run":
    import shutil; shutil.rmtree(work.parent); sys.exit(0)
if mode == "samples_file":
    os.rmdir(job["samples"]); open(job["samples"], "w").close(); sys.exit(0)
if mode == "forever":
    time.sleep(600)
with open(job["metrics"], "a") as out:
    for step in range(done + 1, a.steps + 1):
        time.sleep(a.pause)
        loss = {"nan": float("nan"), "text": "low", "bool": True}.get(mode, 1 / step)
        out.write(json.dumps({"step": step, "total": a.steps, "loss": loss, "lr": 0.5}) + "\\n"); out.flush()
        reported = step
        if mode == "backwards" and step == 4:
            out.write('{"step": 2, "loss": 77}\\n'); out.flush()
        if mode == "snapshots" and step in (2, 4):
            draw(pathlib.Path(job["samples"]) / str(step), 3 / step)
            out.write(json.dumps({"step": step, "samples": True}) + "\\n"); out.flush()
        if mode == "killed" and step == 4 and not done:
            state.write_text("2")
            out.write('{"step": 5, "lo'); out.flush(); time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "early" and step == 4:
            break
draw(pathlib.Path(job["samples"]), a.noise)
time.sleep(a.slow * (time.monotonic() - began))
last = pathlib.Path(job["samples"]) / f"{prompts[-1]['index']:06d}.png"
if mode == "missing":
    last.unlink()
if mode == "wrong_size":
    Image.new("RGB", (9, 8)).save(last)
if mode == "unreadable":
    last.write_bytes(b"no image")
if mode == "grey":
    Image.new("LA", (8, 8), (90, 0)).save(last)
if mode == "outside":
    (pathlib.Path(job["study"]) / "left_behind.txt").write_text("x")
if mode == "records":
    (work.parent / "run.json").write_text("{}")
"""

STUDY = """
study: own
data: {source: twemoji, resolution: 8}
command:
  run: ["{python}", train.py, --seed, "{seed}", "{args}"]
  args: {mode: good, noise: 1.0, steps: 6, pause: 0.0, slow: 0.0}
  code: [train.py]
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
resources: {slots: 2, retries: 1}
"""
