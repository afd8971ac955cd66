"""Fashion-MNIST."""

from ..raw import Raw
from .mnist import read_idx

SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)


def fashion_mnist() -> Raw:
    """60,000 + 10,000 grey pictures of clothes, 28x28 (Xiao, Rasul and Vollgraf, 2017)."""
    from torchvision.datasets import FashionMNIST

    return read_idx("fashion_mnist", "FashionMNIST", SHA256, FashionMNIST)
