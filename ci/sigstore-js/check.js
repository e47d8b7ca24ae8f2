// node check.js MODULES KEY FILE BUNDLE   Checks one bundle (a line of FILE.sigstore.jsonl) over FILE with a public key
// in PEM, by @sigstore/verify alone: exit 0 when it holds, 1 with the cause when not.
'use strict';
const { createPublicKey, createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');

const [modules, keyFile, file, bundleFile] = process.argv.slice(2);
const load = createRequire(`${modules}/package.json`);
const { bundleFromJSON } = load('@sigstore/bundle');
const { PublicKeyDetails } = load('@sigstore/protobuf-specs');
const { Verifier, toSignedEntity, toTrustMaterial } = load('@sigstore/verify');

const key = createPublicKey(readFileSync(keyFile));
const spki = key.export({ type: 'spki', format: 'der' });
const hint = createHash('sha256').update(spki).digest('base64');
const keyDetails = key.asymmetricKeyType === 'ed25519'
  ? PublicKeyDetails.PKIX_ED25519
  : PublicKeyDetails.PKIX_ECDSA_P256_SHA_256;
// No log, no authority: our key is all that is trusted, as on a node.
const trusted = toTrustMaterial(
  { mediaType: '', certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] },
  { [hint]: { rawBytes: spki, keyDetails } },
);
try {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundleFile, 'utf8')));
  const verifier = new Verifier(trusted, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
  verifier.verify(toSignedEntity(bundle, readFileSync(file)));
} catch (error) {
  console.error(`${error.code ?? error.name}: ${error.message}`);
  process.exit(1);
}
