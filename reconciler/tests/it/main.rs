//! Apply and recovery on the simulated disk, with real signatures, a real policy and a real set on a real file system.

mod apply;
mod crash;
mod fixture;
