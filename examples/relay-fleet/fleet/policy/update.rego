# May this node take this update? Forward, and nothing that the fleet forbids.
package autonomy.update

import rego.v1

default allow := false

allow if not input.facts.bound.current

allow if input.manifest.metadata.serial > input.facts.bound.current.serial

allow if input.plan.manifest.fingerprint == input.facts.bound.current.manifest

# Release 2 speaks to radios that nodes with the label `radio: mk1` do not have.
deny contains message if {
	object.get(object.get(input.facts.bound.node, "labels", {}), "radio", "mk2") == "mk1"
	startswith(input.manifest.spec.release.version, "2.")
	message := sprintf("release %s needs a radio that this node does not have", [input.manifest.spec.release.version])
}
