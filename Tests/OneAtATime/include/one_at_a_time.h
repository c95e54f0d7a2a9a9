// Linked into the tests, this has them run one after the other; there is nothing to call.
