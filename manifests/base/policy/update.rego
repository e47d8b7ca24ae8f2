# May this node take this update? Asked with {manifest, plan, facts}; any `deny` message wins over `allow`.
package autonomy.update

import rego.v1

default allow := false

allow if {
	moves_forward
	input.manifest.metadata.channel == node_channel
}

# The node runs nothing yet.
moves_forward if not input.facts.bound.current

moves_forward if input.manifest.metadata.serial > input.facts.bound.current.serial

# The running manifest again: a repair.
moves_forward if input.plan.manifest.fingerprint == input.facts.bound.current.manifest

# A node follows `stable` unless its label `channel` says otherwise.
node_channel := object.get(object.get(input.facts.bound.node, "labels", {}), "channel", "stable")

release_channel := object.get(input.manifest.metadata, "channel", "none")

deny contains message if {
	release_channel != node_channel
	message := sprintf("channel %s is not for this node, which follows %s", [release_channel, node_channel])
}

deny contains message if {
	release := input.manifest.spec.release.version
	why := data.forbidden.releases[release]
	message := sprintf("release %s is forbidden in this fleet: %s", [release, why])
}

deny contains message if {
	release := input.manifest.spec.release.version
	regex.match(`^[0-9]+\.[0-9]+\.[0-9]+-`, release)
	node_channel == "stable"
	message := sprintf("release %s is a pre-release, and this node follows stable", [release])
}

# An agent that is taken away would leave the pier unwatched.
deny contains "the release holds no agent" if {
	not "agent" in {artifact.name | some artifact in input.manifest.spec.artifacts}
}
