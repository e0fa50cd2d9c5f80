Feature: 3. Billing starts
  What is used is counted from the moment it runs, and the owner is told.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page
    And the provider grants the owner the namespace for 1h

  Rule: Tracking begins with the deployment.

    Scenario: Use is counted from the deployment on
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the seconds it runs, and what it reserves over them, are counted for this deployment
      And the bytes it keeps in the store are counted
      When the page is read 8 times
      Then the bytes it sent are counted

    Scenario: What was denied costs nothing
      When the owner applies a deployment that was changed after signing
      Then it is denied because of DigestMismatch
      And nothing is counted for it

  Rule: The user gets a confirmation.

    Scenario: The owner is told by the object itself and by Events
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the object says who signed it, until when it counts, which release is served and where
      And one Event tells that its signature was verified

    Scenario: The owner is told by a message that the provider signed
      Given an owner who signed in and lets the provider send notices
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the owner's inbox receives a notice of this change, signed by the provider
      And its id names the revision, so that a repeat is known as one

    Scenario: Who did not permit notices gets none
      Given an owner who signed in and does not let the provider send notices
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      When the owner signs in again and lets the provider send notices
      And the owner signs and applies an update to another page
      Then the first that the owner's inbox receives is a notice of this change, signed by the provider
