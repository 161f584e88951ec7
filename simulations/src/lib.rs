//! A world with a virtual clock for the production machines.
