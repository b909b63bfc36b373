"""A small diffusion model (DDPM, arXiv 2006.11239; sampled by DDIM, arXiv 2010.02502), conditioned on words."""

import pairs
import torch
import torch.nn.functional as F
from torch import nn

from harness.script import Job

job = Job()  # its settings, seed and prompts
a, shape, T = job.args, (3, job.resolution, job.resolution), 100
torch.manual_seed(job.seed)
grid = torch.linspace(0, 1, T + 1)
cosine = torch.cos((grid + 0.008) / 1.008 * torch.pi / 2) ** 2  # of arXiv 2102.09672
# share of the image's variance that is left after t steps
kept = (cosine / cosine[0] if a.schedule == "cosine" else (1 - grid) ** 2).clamp(1e-4, 0.9999)[:, None, None, None]


class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.inside, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=2**n, dilation=2**n) for n in (0, 1, 2, 0))
        self.about = nn.ModuleList(nn.Linear(64 + 16, 2 * width) for _ in self.convs)

    def forward(self, x, t, text):
        waves = t[:, None] / T * 2 ** torch.arange(8) * torch.pi
        about, x = torch.cat([waves.sin(), waves.cos(), text], 1), self.inside(x)
        for conv, layer in zip(self.convs, self.about):
            gamma, beta = layer(about)[..., None, None].chunk(2, 1)
            x = x + F.silu(conv(F.layer_norm(x, x.shape[1:])) * (1 + gamma) + beta)
        return self.out(x)


@torch.no_grad()
def draw(captions, seeds):
    x = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    h = pairs.words(captions)
    for n in range(T, 0, -5):
        t = torch.full((len(x),), n)
        without = net(x, t, 0 * h)
        noise = without + a.guidance * (net(x, t, h) - without)  # arXiv 2207.12598
        clean = ((x - (1 - kept[n]).sqrt() * noise) / kept[n].sqrt()).clamp(-1, 1)
        x = kept[n - 5].sqrt() * clean + (1 - kept[n - 5]).sqrt() * noise
    return pairs.pixels(clean)


images, text = pairs.load(job.study / "emoji" / "train", job.resolution)
adam = torch.optim.Adam((net := Net()).parameters(), a.lr)
parts = {"net": net, "adam": adam}
for step in range(pairs.restore(job, parts) + 1, a.steps + 1):
    x, h = pairs.batch(images, text)
    t, noise = torch.randint(1, T + 1, (32,)), torch.randn(32, *shape)
    asked = h * (torch.rand(32, 1) > 0.1)  # without its caption one time in ten, for guidance
    loss = F.mse_loss(net(kept[t].sqrt() * x + (1 - kept[t]).sqrt() * noise, t, asked), noise)
    pairs.descend(adam, loss)
    if job.is_snapshot(step, a.steps):  # measured on the way
        job.draw(draw, step)
    pairs.report(job, step, parts, loss=loss)
job.draw(draw)
