"""The search for copies of training images among synthetic ones."""
