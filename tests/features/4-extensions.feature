Feature: 4. Extensions
  What is not permitted is denied with a reason; what is out of order for a while is tried again and said.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page

  Rule: An invalid token is denied, and the user is notified.

    Scenario Outline: Denied and told why: <token>
      Given the provider grants the owner the namespace for 1h
      When the owner applies a deployment <token>
      Then it is denied because of <reason>
      And the owner is told "<told>"
      And neither the device nor the store has heard of it

      Examples:
        | token                                              | reason            | told                            |
        | under a grant that has expired                     | Expired           | Ask the issuer for a new grant  |
        | under a grant that the provider took back          | Revoked           | Ask the issuer for a new grant  |
        | under a grant that no provider issued              | NotAnchored       | Ask the provider for a grant    |
        | under a grant for another provider                 | WrongAudience     | Ask this provider for a grant   |
        | under a grant for another namespace                | CapabilityMissing | Ask the issuer for a grant      |
        | under the grant of another owner                   | OwnerMismatch     | Set spec.owner to the DID       |
        | under a grant that was made to last longer         | BadSignature      | Nothing may be changed          |
        | under a grant without the link above it            | NotAnchored       | Ask the provider for a grant    |
        | signed by somebody else                            | SignerMismatch    | Sign with the key               |
        | signed for another name                            | WrongBehaviour    | Sign the object under the name  |
        | signed for another provider                        | WrongRecipient    | kubectl hosting sign --provider |
        | signed tomorrow                                    | TimeInFuture      | Check the signer's clock        |
        | that was changed after signing                     | DigestMismatch    | not what was applied            |

    Scenario: YAML that differs only in its order is the same spec
      Given the provider grants the owner the namespace for 1h
      When the owner applies a signed deployment with its members in another order
      Then the page is served from a device

    Scenario: A denied request over libp2p is answered
      Given the provider grants every DID to apply in the owner's namespace for 1h
      And the page can be fetched as an archive
      When the owner signs in over libp2p
      And the owner sends a deployment that was changed after signing to the provider over libp2p
      Then the provider refuses with DigestMismatch in an answer that it signed
      And neither the device nor the store has heard of it

    Scenario: Git is checked before anything is sent
      Given the provider grants the owner the namespace for 1h
      When the owner verifies a signed deployment that was changed after signing
      Then the command rejects it because of DigestMismatch

  Rule: When storage is unavailable the request is retried, or an error is returned.

    Scenario: Without the store it waits, says so, and goes on by itself
      Given an installation of its own
      And the provider grants the owner the namespace for 1h
      And a deployment of another page is served
      When the store is unavailable
      And the owner signs and applies a deployment of the page
      Then the condition ContentPublished is False because of StorageUnavailable
      And the owner is told "The operator tries again"
      And nothing runs for it
      And the other page is still served
      When the store is available again
      Then the page is served from a device
