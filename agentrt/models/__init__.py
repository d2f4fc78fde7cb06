"""Online learners shared by policies and by the order beside the blocks: `learn_one`, `predict_one`."""
