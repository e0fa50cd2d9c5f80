Feature: 2. Provision
  A signed request starts the app on a device; its files lie in the store under the owner's DID.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page

  Rule: The deployment request starts the app on a device.

    Scenario: What the owner signed and applied is served
      Given the provider grants the owner the namespace for 1h
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the device runs it exactly once

    Scenario: What is not signed is refused as it is applied
      Given the provider grants the owner the namespace for 1h
      When the owner applies a deployment of the page without signing it
      Then the command fails and says "the spec is not signed: run `kubectl hosting sign"
      And neither the device nor the store has heard of it

    Scenario Outline: An owner who has only a DID deploys over <transport>, without an account in the cluster
      Given the provider grants every DID to apply, publish, read, usage and delete in the owner's namespace for 720h
      And the page can be fetched as an archive
      When the owner signs in over <transport>
      And the owner signs a deployment of the page and sends it to the provider over <transport>
      Then the provider confirms it in an answer that it signed
      And the page is served from a device
      When the owner asks the provider over <transport> to delete it
      Then the provider confirms it in an answer that it signed
      And the deployment is gone and nothing runs for it

      Examples:
        | transport |
        | libp2p    |
        | HTTP      |

    Scenario: What would come of a deployment is said before it is sent
      Given the provider grants the owner the namespace for 1h
      When the owner plans a deployment of the page
      Then the plan names what would be uploaded, and that the signature will pass
      And to the provider, who sees all devices, it names the device too
      And neither the device nor the store has heard of it

  Rule: Files are uploaded to the storage service and linked to the user's DID.

    Scenario: The files are kept under the owner's DID
      Given the provider grants the owner the namespace for 1h
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the store holds the page and its release under the owner's DID and nowhere else

    Scenario: The same file of two owners is kept for each of them
      Given the provider grants the owner the namespace for 1h
      And another owner whose deployment serves the same page
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the store holds the page for each of the two owners

    Scenario: Only the files that the owner signed are uploaded
      Given the provider grants the owner the namespace for 1h
      When the owner signs a deployment of the page, and other files are put in its place before it is applied
      Then the condition ContentPublished is False because of ContentDigestMismatch
      And the store holds neither the page nor the other files
