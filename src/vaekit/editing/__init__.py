"""What is done with a trained model."""

from vaekit.editing.attributes import Attribute, from_data, from_examples
from vaekit.editing.combine import arithmetic, mix
from vaekit.editing.directions import Direction, add, apart, codes_of, direction
from vaekit.editing.impute import Imputation, impute
from vaekit.editing.inpaint import Inpainting, inpaint
from vaekit.editing.interpolate import Path, interpolate
from vaekit.editing.judge import Judge, judge
from vaekit.editing.keep import keep_rest
from vaekit.editing.mask import hidden_part
from vaekit.editing.picture import imputations
from vaekit.editing.principal import Principal, principal_directions, walk
from vaekit.editing.report import edit_report, mix_report
from vaekit.editing.strips import save_animation, save_strip, strip
from vaekit.editing.traverse import Active, active_dimensions, traverse

__all__ = [
    "Active",
    "Attribute",
    "Direction",
    "Imputation",
    "Inpainting",
    "Judge",
    "Path",
    "Principal",
    "active_dimensions",
    "add",
    "apart",
    "arithmetic",
    "codes_of",
    "direction",
    "edit_report",
    "from_data",
    "from_examples",
    "hidden_part",
    "imputations",
    "impute",
    "inpaint",
    "interpolate",
    "judge",
    "keep_rest",
    "mix",
    "mix_report",
    "principal_directions",
    "save_animation",
    "save_strip",
    "strip",
    "traverse",
    "walk",
]
