Feature: 6. Update
  A change counts when its owner signed it, and is confirmed.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page
    And the provider grants the owner the namespace for 1h
    And the owner's deployment of the page is served

  Rule: DID auth happens before any update.

    Scenario: Files that nobody signed change nothing
      When other files are put in the place of the page
      Then the page is still served

    Scenario: An edit without a signature is refused in the editor
      When the deployment is edited without signing it
      Then the command fails and says "the spec was changed but not signed again"
      And the page is still served

    Scenario: An update that somebody else signed is denied, and the site stays
      When somebody else signs and applies an update
      Then the update is denied because of SignerMismatch
      And the owner is told "Sign with the key"
      And the page is still served

    Scenario: What was signed before does not come back
      Given the owner's update to another page is served
      When the first signed deployment is applied again
      Then the update is denied because of RolledBack
      And the other page is still served

    Scenario: A pipeline updates what it was delegated, and nothing else
      Given a pipeline to which the owner delegated apply for this deployment alone
      When the pipeline signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      When the pipeline signs and applies a deployment of the page under another name
      Then it is denied because of CapabilityMissing
      And neither the device nor the store has heard of it

  Rule: New files are uploaded and linked to the DID.

    Scenario: An update uploads what is new, under the owner's DID, and keeps the deployment
      When the owner signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      And the store holds both releases under the owner's DID
      And the file that both releases hold was uploaded once

    Scenario: An update that fails leaves the release before
      When the owner signs and applies an update whose files are not there
      Then the condition ContentPublished is False because of ContentDigestMismatch
      And the page is still served

  Rule: A confirmation comes after each update.

    Scenario: The owner is told that the update is served
      When the owner signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      And the object says who signed it, until when it counts, which release is served and where

    Scenario: Each accepted change is told once by an Event
      When the owner signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      And two Events tell of two accepted changes

    Scenario: Each accepted change is told by a notice
      Given an owner who signed in and lets the provider send notices
      When the owner signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      And the owner's inbox receives a notice of this change, signed by the provider
      When the owner signs and applies an update back to the page
      Then the page is served again, from the same deployment on the device
      And the owner's inbox receives a notice of this change, signed by the provider
