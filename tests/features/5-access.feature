Feature: 5. Access
  Hosted content is readable only after its reader proved a DID. The gateway that asks for the proof comes later: what
  needs it is written here and tagged @gateway. Without it, content that is not public is served to nobody.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page
    And the provider grants the owner the namespace for 1h

  Rule: Every access to hosted content needs DID auth with a verified challenge.

    Scenario Outline: Without the gateway, content for <readers> answers 403 and says why
      When the owner signs and applies a deployment of the page for <readers>
      Then the condition Ready is False because of PrivateAccessNotAvailable
      And the owner is told "403"
      And whoever finds the site gets 403 and nothing of the page

      Examples:
        | readers                                |
        | the owner                              |
        | the owner and whom the owner delegates |

    Scenario: Public is what the owner signed as public, with the provider's leave
      When the owner signs and applies a deployment of the page
      Then the page is served from a device

    @gateway
    Scenario: The owner proves the DID and reads
      When the owner signs and applies a deployment of the page for the owner
      And a browser opens the site
      Then the gateway asks for a challenge to be signed
      When the owner signs the challenge with the DID key
      Then the gateway verifies it against the DID document
      And the browser shows the page

    @gateway
    Scenario: A reader to whom the owner delegated read proves a DID and reads
      When the owner signs and applies a deployment of the page for the owner and whom the owner delegates
      And the owner delegates read of it to a reader for 1h
      And the reader signs in at the site
      Then the browser shows the page

  Rule: Files are fetched only after success.

    @gateway
    Scenario: Nothing is fetched for whom proved nothing
      When the owner signs and applies a deployment of the page for the owner
      And a browser opens the site
      Then no file was fetched from the store for it

    @gateway
    Scenario: Access ends with the right to it
      When the owner signs and applies a deployment of the page for the owner and whom the owner delegates
      And the owner delegates read of it to a reader for 1h
      And the reader signs in at the site
      And the owner takes the delegation back
      Then the next file is denied to the reader

  Rule: On failure access is denied, and the user is notified.

    @gateway
    Scenario Outline: Denied and told why: <answer>
      When the owner signs and applies a deployment of the page for the owner
      And a browser opens the site
      And the challenge is answered with <answer>
      Then the gateway denies access and says why
      And no file was fetched from the store for it

      Examples:
        | answer                                    |
        | the signature of another key              |
        | a challenge that was answered before      |
        | a challenge of another site               |
        | the signature of a DID without the right  |
