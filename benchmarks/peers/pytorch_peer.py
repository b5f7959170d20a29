"""PyTorch's transfer learning tutorial: python pytorch_peer.py MANIFEST TABLE WEIGHTS SEED frozen|thawed.

Its two ways, the network as a fixed feature extractor (frozen) or fine-tuned (thawed), with its values: random crops
and mirroring at 224 px, batches of 4, SGD with a learning rate of 0.001 and momentum of 0.9, a tenth of the rate every
7 of 25 epochs, and the weights of the epoch with the best val accuracy. As there, batch normalisation adapts in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import timm
import torch
from _answers import Photo, arguments, read_fold, write_answers
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

EPOCHS, BATCH = 25, 4

TO_TENSOR = (transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3))  # as the network was trained
AUGMENT = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *TO_TENSOR])
CROP = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *TO_TENSOR])


class Photos(Dataset[tuple[Tensor, int]]):  # type: ignore[misc]
    """Photos as tensors (3, 224, 224), each with the index of its class."""

    def __init__(self, photos: Sequence[Photo], classes: Sequence[str], transform: transforms.Compose) -> None:
        self.photos, self.classes, self.transform = photos, classes, transform

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        photo = self.photos[index]
        return self.transform(Image.open(photo.path).convert("RGB")), self.classes.index(photo.label)


def main() -> None:
    manifest, table, weights, seed, way = arguments()
    fold = read_fold(manifest)
    torch.manual_seed(int(seed))
    network = timm.create_model("tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": weights})
    network.requires_grad_(way == "thawed")
    network.classifier = nn.Linear(network.num_features, len(fold.classes))
    train = DataLoader(Photos(fold.train, fold.classes, AUGMENT), BATCH, shuffle=True)
    val, test = (DataLoader(Photos(side, fold.classes, CROP), BATCH) for side in (fold.val, fold.test))
    fit(network, train, val)
    write_answers(table, fold.test, (fold.classes[i] for i in predicted(network, test).tolist()))


def fit(network: nn.Module, train: DataLoader[tuple[Tensor, int]], val: DataLoader[tuple[Tensor, int]]) -> None:
    """Train the weights that are not frozen, and keep those of the epoch with the best val accuracy."""
    optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    labels = torch.cat([y for _, y in val])
    best, best_right = deepcopy(network.state_dict()), -1
    for _ in range(EPOCHS):
        network.train()
        for x, y in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        schedule.step()
        right = int((predicted(network, val) == labels).sum())
        if right > best_right:
            best, best_right = deepcopy(network.state_dict()), right
    network.load_state_dict(best)


def predicted(network: nn.Module, photos: DataLoader[tuple[Tensor, int]]) -> Tensor:
    """Return the index of the most probable class of each photo (N,)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(x).argmax(dim=1) for x, _ in photos])


if __name__ == "__main__":
    main()
