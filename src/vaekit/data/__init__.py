"""Images in: whatever the user has becomes a `Dataset` of raw values and a `DataSpec`."""

from vaekit.data.dataset import Dataset
from vaekit.data.folder import read_images
from vaekit.data.open import BUILT_IN, from_arrays, open_data
from vaekit.data.report import ScanReport, scan
from vaekit.data.spec import DataSpec

__all__ = ["BUILT_IN", "DataSpec", "Dataset", "ScanReport", "from_arrays", "open_data", "read_images", "scan"]
