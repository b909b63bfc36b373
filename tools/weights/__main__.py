"""python -m tools.weights [NAME ...]: trains the embedded encoders, one thread each, and writes their card."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from harness import cache
from tools.weights import card
from tools.weights.corpus import Corpus
from tools.weights.make import RECIPES, make


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.weights", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(RECIPES)} when left out")
    parser.add_argument("--cache", type=Path, default=cache.root(), help="where prepared images are kept")
    parser.add_argument("--jobs", type=int, default=2, help="encoders trained at a time, each on one thread")
    parser.add_argument("--share", type=float, default=1.0, help="train this share of the steps, for a trial")
    arguments = parser.parse_args()
    recipes = [RECIPES[name] for name in arguments.names or RECIPES]
    # More threads would only wait for each other at these sizes.
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for work in [pool.submit(make, recipe, arguments.cache, arguments.share) for recipe in recipes]:
            work.result()
    print(card.write(Corpus(arguments.cache), {name: recipe.epsilon for name, recipe in RECIPES.items()}))


if __name__ == "__main__":
    main()
