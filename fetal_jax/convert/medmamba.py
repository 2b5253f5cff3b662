"""Names of the reference implementation of MedMamba (see `rules.derive`)."""

BRANCH = 'conv33conv33conv11'

MEDMAMBA = (
  (r'^stem_norm', 'patch_embed.norm'),
  (r'^stem', 'patch_embed.proj'),
  (r'^stage(\d+)_(\d+)', r'layers.\1.blocks.\2'),
  (r'\.bn1\.', f'.{BRANCH}.0.'),
  (r'\.conv1\.', f'.{BRANCH}.1.'),
  (r'\.bn2\.', f'.{BRANCH}.2.'),
  (r'\.conv2\.', f'.{BRANCH}.4.'),
  (r'\.bn3\.', f'.{BRANCH}.5.'),
  (r'\.conv3\.', f'.{BRANCH}.7.'),
  # The reference counts a merging to the stage before it.
  (r'^merge(\d+)', lambda match: f'layers.{int(match[1]) - 1}.downsample'),
)

RENAMES = {'medmamba_t': MEDMAMBA, 'medmamba_s': MEDMAMBA, 'medmamba_b': MEDMAMBA}
