# May this node take this update?
package autonomy.update

import rego.v1

default allow := false

allow if not input.facts.bound.current

allow if input.manifest.metadata.serial > input.facts.bound.current.serial

allow if input.plan.manifest.fingerprint == input.facts.bound.current.manifest
