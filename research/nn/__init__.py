"""Parts that two or more architecture families use: layers, blocks and the trunk."""
