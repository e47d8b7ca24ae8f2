//! No empty rooms: a crate that does nothing is a promise, not a crate.

use syn::visit::{self, Visit};

/// Whether the file holds a function that does something, outside its tests.
pub(crate) fn has_behaviour(file: &syn::File) -> bool {
    let mut bodies = Bodies(false);
    bodies.visit_file(file);
    bodies.0
}

/// Whether the attributes say that the item is for tests alone.
pub(crate) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

struct Bodies(bool);

impl<'ast> Visit<'ast> for Bodies {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.0 |= !block.stmts.is_empty();
    }

    // A constant may compute in a block too; that is not behaviour.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
}
