"""Data sets in their original layout, read into the one `Dataset`.

============ =================================================================================
layout       what it reads
============ =================================================================================
auto         folders of good images, or MVTec AD layout: see `cada_edge.data.dataset.scan`
folder       good images only; a first-level folder names the product
csv          a manifest of your own: `cada_edge.data.readers.manifest`
mvtec-ad     MVTec AD
mvtec-loco   MVTec LOCO AD
mpdd         MPDD
btad         BTAD (BeanTech)
visa         VisA, by its official one-class split
real-iad     Real-IAD, by its official multi-view split
============ =================================================================================

Where ``auto`` takes what it finds, the named layouts insist: a picture in an unexpected place
or a missing mask is an error, for figures that others will compare must rest on the whole set.
"""

from cada_edge.data.readers.read import LAYOUTS, read_dataset

__all__ = ["LAYOUTS", "read_dataset"]
