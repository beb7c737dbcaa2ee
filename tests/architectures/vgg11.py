"""VGG-11 (Simonyan and Zisserman, 2015)."""

from torch import Tensor, nn


class Stage(nn.Sequential):
    def __init__(self, channels: int, filters: int, depth: int) -> None:
        super().__init__()
        for _ in range(depth):
            self.extend([nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()])
            channels = filters
        self.append(nn.MaxPool2d(2))


class Vgg11(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Stage(3, 64, depth=1),
            Stage(64, 128, depth=1),
            Stage(128, 256, depth=2),
            Stage(256, 512, depth=2),
            Stage(512, 512, depth=2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
