"""Writes the checkpoints beside it with PyTorch and safetensors, which the tests themselves do without.

Needs torch (2.13 wrote those in the repository) and safetensors: `python tests/convert/files/make.py`.
"""

import pathlib
import warnings
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent


def tensors():
  """Tensors of all kinds; `EXPECTED` in test_files.py says what each must be read as."""
  shared = torch.arange(12.0)
  parameter = nn.Parameter(torch.arange(2.0))
  parameter.note = 'makes PyTorch save it with state'
  return OrderedDict(
    matrix=shared.view(3, 4),
    transposed=shared.view(3, 4).T,
    column=shared.view(3, 4)[1:, 2:3],
    strided=shared[1::5],
    expanded=torch.tensor(7.0).expand(2, 3),
    scalar=torch.tensor(2.5),
    empty=torch.empty(0, 3),
    double=torch.arange(3, dtype=torch.float64) / 4,
    half=torch.arange(3).half() / 4,
    bfloat16=torch.arange(3).bfloat16() / 4,
    int64=torch.arange(3) - 2**40,
    int32=torch.arange(3, dtype=torch.int32) - 1,
    int16=torch.arange(3, dtype=torch.int16) - 1,
    int8=torch.arange(3, dtype=torch.int8) - 1,
    uint8=torch.arange(3, dtype=torch.uint8) + 253,
    uint16=torch.tensor([1, 65535], dtype=torch.uint16),
    bool=torch.tensor([True, False, True]),
    parameter=nn.Parameter(torch.arange(2.0)),
    parameter_with_state=parameter,
  )


class Nothing(nn.Module):
  def forward(self, x):
    return x


def training_state():
  """What a training script saves: the state dict of a DataParallel model after a step, among other things."""
  torch.manual_seed(0)
  model = nn.DataParallel(nn.Linear(2, 1))
  with torch.no_grad():
    model.module.weight.copy_(torch.tensor([[1.0, 2.0]]))
    model.module.bias.fill_(3.0)
  optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
  model(torch.ones(1, 2)).sum().backward()
  optimizer.step()
  scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
  return {
    'epoch': 3,
    'best': 0.5,
    'state_dict': model.state_dict(),
    'optimizer': optimizer.state_dict(),
    'scheduler': scheduler.state_dict(),
  }


def main():
  warnings.simplefilter('ignore')
  torch.save(tensors(), HERE / 'zip.pt')
  torch.save(tensors(), HERE / 'legacy.pth', _use_new_zipfile_serialization=False)
  torch.save(training_state(), HERE / 'training.pth')
  torch.save({'weight': torch.arange(3.0), 'rate': 0.1}, HERE / 'protocol4.pt', pickle_protocol=4)
  torch.save(nn.Linear(1, 1), HERE / 'module.pt')
  torch.jit.save(torch.jit.script(Nothing()), HERE / 'script.pt')
  torch.serialization.set_crc32_options(False)
  torch.save({'weight': torch.arange(3.0)}, HERE / 'unchecked.pt')
  contiguous = {name: value.detach().clone().contiguous() for name, value in tensors().items()}
  save_file(contiguous, HERE / 'tensors.safetensors', metadata={'format': 'pt'})
  save_file({'small': torch.zeros(2, dtype=torch.float8_e4m3fn)}, HERE / 'float8.safetensors')


if __name__ == '__main__':
  main()
