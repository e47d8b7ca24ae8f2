//! A set, and whom a node trusts, in; a set whose every byte was checked, out.
