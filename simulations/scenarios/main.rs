//! Worlds in which the production machines must do as promised. Each failure names the seed that replays it.

mod crowds;
mod deaths;
mod lies;
mod replays;
mod sources;
mod trial;
mod zones;
