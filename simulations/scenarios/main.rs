//! Scenarios with fixed seeds.
