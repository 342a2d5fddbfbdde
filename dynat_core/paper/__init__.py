"""Wang et al. 2019: the published numbers, the runs behind each table and figure, and what they measured."""
