"""The embedded sample of MNIST: 10,000 training and 2,000 test images, balanced by class."""
