from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18 as torchvision_resnet18

from activarium.schemas.errors import UserError
from activarium.tasks.models.architectures import TwoBlockCNN, resnet18


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_resnet18__names_and_shapes_are_torchvisions_but_for_the_stem():
    ours, theirs = shapes(resnet18(outputs=1000)), shapes(torchvision_resnet18(weights=None))
    assert list(ours) == list(theirs)
    assert {n for n in ours if ours[n] != theirs[n]} == {"conv1.weight"}
    assert ours["conv1.weight"] == (64, 3, 3, 3)


def test_resnet18__with_torchvisions_modules_gives_torchvisions_logits():
    theirs = torchvision_resnet18(weights=None, num_classes=10).eval()
    ours = resnet18().eval()
    theirs.conv1, theirs.maxpool = ours.conv1, torch.nn.Identity()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), theirs(images))


def test_resnet18__stages_double_the_width_and_keep_the_first_map_size():
    model = resnet18(colours=1, width=4).eval()
    seen = {}
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "avgpool"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, o, name=name: seen.update({name: o.shape[1:]}))
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    assert seen["conv1"] == seen["layer1"] == (4, 16, 16)
    assert seen["layer2"] == (8, 8, 8)
    assert seen["layer4"] == (32, 2, 2)
    assert seen["avgpool"] == (32, 1, 1)


def test_two_block_cnn__has_its_modules_in_the_order_of_execution():
    names = [name for name, _ in TwoBlockCNN(size=(32, 32)).named_children()]
    assert names == [
        "conv1",
        "bn1",
        "relu1",
        "pool1",
        "conv2",
        "bn2",
        "relu2",
        "pool2",
        "fc1",
        "relu3",
        "dropout1",
        "fc2",
        "relu4",
        "dropout2",
        "fc3",
    ]


@pytest.mark.parametrize(("size", "features"), [((32, 32), 2048), ((28, 28), 1568), ((9, 14), 192)])
def test_two_block_cnn__sizes_its_first_linear_layer_by_the_image(size, features):
    model = TwoBlockCNN(colours=1, outputs=7, size=size).eval()
    assert model.fc1.in_features == features
    assert model(torch.zeros(2, 1, *size)).shape == (2, 7)


def test_two_block_cnn__refuses_images_too_small_to_pool_twice():
    with pytest.raises(UserError, match=r"at least 4x4 pixels.*got 3x8"):
        TwoBlockCNN(size=(3, 8))
