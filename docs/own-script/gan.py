"""A small GAN in the manner of DF-GAN (arXiv 2008.05865): text in each block of G, hinge, matching-aware D, MA-GP."""

import pairs
import torch
import torch.nn.functional as F
from torch import nn

from harness.script import Job

job = Job()  # its settings, seed and prompts
a, ups = job.args, job.resolution.bit_length() - 3  # from 4 x 4 pixels
torch.manual_seed(job.seed)


class G(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.rgb = nn.Linear(32, 64 * 16), nn.Conv2d(64, 3, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1) for _ in range(ups))
        self.affines = nn.ModuleList(nn.Linear(32 + 64, 2 * 64) for _ in range(ups))

    def forward(self, z, t):
        x = self.start(z).view(-1, 64, 4, 4)
        for conv, affine in zip(self.convs, self.affines):
            gamma, beta = affine(torch.cat([z, t], 1))[..., None, None].chunk(2, 1)
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2)) * (1 + gamma) + beta, 0.2)
        return torch.tanh(self.rgb(x))


class D(nn.Module):
    def __init__(self):
        super().__init__()
        down = [nn.Sequential(nn.Conv2d(64 if n else 3, 64, 4, 2, 1), nn.LeakyReLU(0.2)) for n in range(ups)]
        self.down = nn.Sequential(*down)
        self.head = nn.Sequential(nn.Conv2d(64 + 64, 64, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 4))

    def forward(self, x, t):
        return self.head(torch.cat([self.down(x), t[..., None, None].expand(-1, -1, 4, 4)], 1)).flatten()


def draw(captions, seeds):
    z = torch.stack([torch.randn(32, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    return pairs.pixels(g(z, pairs.words(captions)))


images, text = pairs.load(job.study / "emoji" / "train", job.resolution)
g, d = G(), D()
og, od = (torch.optim.Adam(net.parameters(), a.lr, (0.0, 0.9)) for net in (g, d))
parts = {"g": g, "d": d, "og": og, "od": od}
for step in range(pairs.restore(job, parts) + 1, a.steps + 1):
    x, t = (rows.requires_grad_() for rows in pairs.batch(images, text))
    fake, real = g(torch.randn(32, 32), t.detach()), d(x, t)
    wrong = [d(fake.detach(), t)] if a.no_mismatch else [d(fake.detach(), t), d(x, t.roll(1, 0))]
    loss_d = F.relu(1 - real).mean() + sum(F.relu(1 + each).mean() for each in wrong) / len(wrong)
    if not a.no_magp:
        slopes = torch.autograd.grad(real.sum(), (x, t), create_graph=True)
        loss_d = loss_d + 2 * torch.cat([each.flatten(1) for each in slopes], 1).norm(dim=1).pow(6).mean()
    pairs.descend(od, loss_d)
    pairs.report(job, step, parts, loss_d=loss_d, loss_g=pairs.descend(og, -d(fake, t.detach()).mean()))
job.draw(draw)
