"""Auto-encoding variational Bayes as pairs of Pyro programs.

``aevb.models`` p(x, z) · ``aevb.guides`` q(z|x) · ``aevb.inference`` log p(x) >= ... · ``aevb.data``.
Kingma and Welling (2013), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114.
"""

__version__ = "0.1.0"
