"""Models in the forms that other programs read."""

from vaekit.export.codes import write_codes
from vaekit.export.diffusers import CodeScale, code_scale, to_diffusers

__all__ = ["CodeScale", "code_scale", "to_diffusers", "write_codes"]
