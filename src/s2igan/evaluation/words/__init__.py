"""Words without letters: recurring pieces of speech, and what they go with; no text is read.

Boundaries may be at peaks in how fast the frames of the speech encoder change (prominence-based segmentation, as in
Pasad et al. 2023 and in PromSegClus of Kamper and van Niekerk 2024); the mean of a segment's frames stands for it, and
k-means puts segments together. Which of the peaks are boundaries follows from the clusters in turn: those that make
segments near to a cluster's middle (embedded segmental k-means, Kamper et al. 2017). A cluster that tells much about
the pictures, by mutual information, is a word for what they show. Where the words spoken are known, they score what was
found.

`frames` and `segments` cut and cluster, `association` says what goes with a cluster, `scores` compares with the truth,
`search` does all of it, and `swap` exchanges found words in recordings.
"""
