"""A small GAN in the manner of DF-GAN (arXiv 2008.05865): text in each block of G, hinge, matching-aware D, MA-GP."""

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
p.add_argument("--lr", type=float, default=2e-4)
p.add_argument("--no-magp", action="store_true")
p.add_argument("--no-mismatch", action="store_true")
a = p.parse_args()
job = json.load(open(os.environ["HARNESS_JOB"]))  # 1. what the harness asks for
work, side = pathlib.Path(job["folder"]), job["resolution"]
torch.manual_seed(a.seed)


class Block(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv, self.affine = nn.Conv2d(i, o, 3, padding=1), nn.Linear(64 + 32, 2 * o)

    def forward(self, x, t):
        gamma, beta = self.affine(t)[..., None, None].chunk(2, 1)
        return F.leaky_relu(self.conv(F.interpolate(x, scale_factor=2)) * (1 + gamma) + beta, 0.2)


class G(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.rgb = nn.Linear(32, 64 * 16), nn.Conv2d(64, 3, 3, padding=1)
        self.blocks = nn.ModuleList(Block(64, 64) for _ in range(side.bit_length() - 3))

    def forward(self, z, t):
        x = self.start(z).view(-1, 64, 4, 4)
        for block in self.blocks:
            x = block(x, torch.cat([z, t], 1))
        return torch.tanh(self.rgb(x))


class D(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [3] + [64] * (side.bit_length() - 3)
        self.down = nn.Sequential(
            *(m for i, o in zip(sizes, sizes[1:]) for m in (nn.Conv2d(i, o, 4, 2, 1), nn.LeakyReLU(0.2)))
        )
        self.head = nn.Sequential(nn.Conv2d(64 + 64, 64, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 4))

    def forward(self, x, t):
        return self.head(torch.cat([self.down(x), t[..., None, None].expand(-1, -1, 4, 4)], 1)).flatten()


images, captions = pairs.load(a.data, side)
text, g, d = pairs.words(captions), G(), D()
og, od = (torch.optim.Adam(net.parameters(), a.lr, (0.0, 0.9)) for net in (g, d))
state, step = work / "state.pt", 0
if state.exists():  # 2. the same folder is given again
    saved = torch.load(state, weights_only=True)
    step = saved["step"]
    for name, it in {"g": g, "d": d, "og": og, "od": od}.items():
        it.load_state_dict(saved[name])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))  # 3. asked to stop: save, and end with 143


def save():
    torch.save(
        {"step": step, "g": g.state_dict(), "d": d.state_dict(), "og": og.state_dict(), "od": od.state_dict()},
        f"{state}.new",
    )
    os.replace(f"{state}.new", state)


with open(job["metrics"], "a") as metrics:
    while step < a.steps:
        at = torch.randint(len(images), (a.batch,))
        x, t = images[at].requires_grad_(), text[at].requires_grad_()
        fake = g(torch.randn(a.batch, 32), t.detach())
        real = d(x, t)
        lost = F.relu(1 - real).mean() + F.relu(1 + d(fake.detach(), t)).mean() / (1 if a.no_mismatch else 2)
        lost = lost if a.no_mismatch else lost + F.relu(1 + d(x, t.roll(1, 0))).mean() / 2
        if not a.no_magp:
            slopes = torch.autograd.grad(real.sum(), (x, t), create_graph=True)
            lost = lost + 2 * torch.cat([each.flatten(1) for each in slopes], 1).norm(dim=1).pow(6).mean()
        od.zero_grad()
        lost.backward()
        od.step()
        made = -d(fake, t.detach()).mean()
        og.zero_grad()
        made.backward()
        og.step()
        step += 1
        if step % 10 == 0 or step == a.steps:  # 4. a line of metrics
            print(
                json.dumps({"step": step, "total": a.steps, "loss_g": made.item(), "loss_d": lost.item()}),
                file=metrics,
                flush=True,
            )
        if stop:
            save()
            sys.exit(143)
        if not torch.isfinite(lost):
            sys.exit(4)  # 5. diverged
    save()
prompts = [json.loads(line) for line in open(job["prompts"], encoding="utf-8")]  # 6. an image for each prompt
with torch.no_grad():
    for it in prompts:
        z = torch.randn(1, 32, generator=torch.Generator().manual_seed(it["seed"]))
        pixels = (
            ((g(z, pairs.words([it["caption"]]))[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        )
        Image.fromarray(pixels).save(f"{job['samples']}/{it['index']:06d}.png")
