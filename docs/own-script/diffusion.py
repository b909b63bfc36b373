"""A small diffusion model (DDPM, arXiv 2006.11239; sampled by DDIM, arXiv 2010.02502), conditioned on words."""

import argparse
import json
import os
import pathlib
import signal
import sys

import pairs
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

p = argparse.ArgumentParser()
p.add_argument("--data")
p.add_argument("--seed", type=int, default=0)
p.add_argument("--steps", type=int, default=2000)
p.add_argument("--batch", type=int, default=32)
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--schedule", default="cosine")
p.add_argument("--guidance", type=float, default=1.0)
a = p.parse_args()
job = json.load(open(os.environ["HARNESS_JOB"]))
work, side, T = pathlib.Path(job["folder"]), job["resolution"], 100
torch.manual_seed(a.seed)
grid = torch.linspace(0, 1, T + 1)
kept = torch.cos((grid + 0.008) / 1.008 * torch.pi / 2) ** 2 if a.schedule == "cosine" else (1 - grid) ** 2
kept = (kept / kept[0]).clamp(1e-4, 0.9999)  # share of the image's variance that is left after t steps


class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.inside, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=2**n, dilation=2**n) for n in (0, 1, 2, 0))
        self.about = nn.ModuleList(nn.Linear(64 + 16, 2 * width) for _ in self.convs)

    def forward(self, x, t, text):
        waves = t[:, None] * 2 ** torch.arange(8) * torch.pi
        about, x = torch.cat([waves.sin(), waves.cos(), text], 1), self.inside(x)
        for conv, layer in zip(self.convs, self.about):
            gamma, beta = layer(about)[..., None, None].chunk(2, 1)
            x = x + F.silu(conv(F.layer_norm(x, x.shape[1:])) * (1 + gamma) + beta)
        return self.out(x)


images, captions = pairs.load(a.data, side)
text, net = pairs.words(captions), Net()
adam = torch.optim.Adam(net.parameters(), a.lr)
state, step = work / "state.pt", 0
if state.exists():
    saved = torch.load(state, weights_only=True)
    step = saved["step"]
    net.load_state_dict(saved["net"])
    adam.load_state_dict(saved["adam"])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))


def draw(folder):
    folder.mkdir(parents=True, exist_ok=True)
    prompts = [json.loads(line) for line in open(job["prompts"], encoding="utf-8")]
    with torch.no_grad():
        for part in (prompts[n : n + 64] for n in range(0, len(prompts), 64)):
            x = torch.stack(
                [torch.randn(3, side, side, generator=torch.Generator().manual_seed(it["seed"])) for it in part]
            )
            h = pairs.words([it["caption"] for it in part])
            for n in range(T, 0, -5):
                t = torch.full((len(x),), n / T)
                noise = net(x, t, h)
                noise = noise if a.guidance == 1 else noise + (a.guidance - 1) * (noise - net(x, t, 0 * h))
                clean = ((x - (1 - kept[n]).sqrt() * noise) / kept[n].sqrt()).clamp(-1, 1)
                x = kept[n - 5].sqrt() * clean + (1 - kept[n - 5]).sqrt() * noise
            for it, pixels in zip(part, ((clean + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()):
                Image.fromarray(pixels).save(folder / f"{it['index']:06d}.png")


with open(job["metrics"], "a") as metrics:
    while step < a.steps:
        at, t = torch.randint(len(images), (a.batch,)), torch.randint(1, T + 1, (a.batch,))
        noise, share = torch.randn(a.batch, 3, side, side), kept[t][:, None, None, None]
        asked = text[at] * (torch.rand(a.batch, 1) > 0.1)  # without its caption one time in ten, for guidance
        loss = F.mse_loss(net(share.sqrt() * images[at] + (1 - share).sqrt() * noise, t / T, asked), noise)
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1
        line = {"step": step, "total": a.steps, "loss": loss.item()}
        if step < a.steps and step % max(1, a.steps // job["snapshots"]) == 0:  # measured on the way
            draw(pathlib.Path(job["samples"], str(step)))
            line["samples"] = True
        print(json.dumps(line), file=metrics, flush=True)
        if stop:
            torch.save({"step": step, "net": net.state_dict(), "adam": adam.state_dict()}, state)
            sys.exit(143)
draw(pathlib.Path(job["samples"]))
