"""The function `regraft.finetune`: train the last blocks of a backbone further, on cached activations."""
