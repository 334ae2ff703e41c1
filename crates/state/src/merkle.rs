//! The tree of RFC 6962: a root over all leaves so far, kept as its frontier. Deliberately absent: proofs.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// The hash of a leaf.
pub(crate) fn leaf(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([LEAF]);
    hash.update(entry);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([NODE]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// A tree that grows: the roots of its full subtrees, the largest first; one for each bit that is set in its
/// size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.frontier.push(leaf);
        // As many full pairs as the old size ends in ones.
        for _ in 0..self.size.trailing_ones() {
            if let (Some(right), Some(left)) = (self.frontier.pop(), self.frontier.pop()) {
                self.frontier.push(node(&left, &right));
            }
        }
        self.size += 1;
    }

    pub(crate) fn root(&self) -> Hash {
        match self.frontier.split_last() {
            None => Sha256::digest([]).into(),
            Some((last, rest)) => rest.iter().rev().fold(*last, |right, left| node(left, &right)),
        }
    }

    /// The frontier, to be kept beside the size.
    pub(crate) fn frontier(&self) -> Vec<u8> {
        self.frontier.concat()
    }

    /// A tree as it was kept; `None` if the frontier is not one of that size.
    pub(crate) fn restore(size: u64, frontier: &[u8]) -> Option<Self> {
        let (hashes, rest) = frontier.as_chunks::<32>();
        let fits = rest.is_empty() && u32::try_from(hashes.len()).ok()? == size.count_ones();
        fits.then(|| Self { size, frontier: hashes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::id::hex;

    /// The definition of RFC 6962 2.1, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let mut split = 1;
                while split * 2 < many.len() {
                    split *= 2;
                }
                node(&defined(&many[..split]), &defined(&many[split..]))
            }
        }
    }

    #[test]
    fn hashes_equal_the_published_vectors() {
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&leaf(b"a")), "022a6979e6dab7aa5ae4c3e5e45f7e977112a7e63593820dbec1ec738a24f93c");
        tree.push(leaf(b"a"));
        tree.push(leaf(b"b"));
        assert_eq!(hex(&tree.root()), "b137985ff484fb600db93107c77b0365c80d78f5b429ded0fd97361d077999eb");
    }

    proptest! {
        #[test]
        fn a_grown_tree_has_the_root_of_the_definition_wherever_it_was_interrupted(size in 0_usize..200, pause in 0_usize..200) {
            let leaves: Vec<Hash> = (0..size).map(|at| leaf(&at.to_be_bytes())).collect();
            let mut tree = Tree::default();
            for (at, leaf) in leaves.iter().enumerate() {
                if at == pause {
                    tree = Tree::restore(tree.size(), &tree.frontier()).unwrap();
                }
                tree.push(*leaf);
            }
            prop_assert_eq!(tree.root(), defined(&leaves));
            prop_assert!(Tree::restore(tree.size() + 1, &tree.frontier()).is_none_or(|other| other.size() == tree.size() + 1));
        }
    }
}
