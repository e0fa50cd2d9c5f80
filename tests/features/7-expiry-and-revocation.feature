Feature: 7. Until it expires or is revoked
  A grant counts until it, or any link of its chain, expires or is revoked. Work ends as its spec says.

  Background:
    Given a provider with a device and a store
    And an owner with a DID
    And a page

  Rule: The grant, or a link of its chain, expires.

    Scenario: Work that shall stop ends when the grant does, and not before
      Given the provider grants the owner the namespace for 30s
      When the owner signs and applies a deployment of the page that stops on expiry
      Then the page is served from a device
      And the site ends when the grant ends, and not before
      And the condition TokenVerified is False because of Expired
      And nothing runs for it

    Scenario: Other work is kept for as long as the provider says
      Given the provider keeps expired work for 4s
      And the provider grants the owner the namespace for 25s
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the site ends 4s after the grant ends, and not before
      And nothing runs for it

    Scenario: A new signature renews it without a restart
      Given the provider grants the owner the namespace for 30s
      When the owner signs and applies a deployment of the page that stops on expiry
      Then the page is served from a device
      When the provider grants the owner the namespace for 1h
      And the owner signs the same deployment again and applies it
      Then the page is served without a break until after the first grant ended, from the same deployment on the device

    Scenario: A link that the owner made ends before the grant does
      Given the provider grants the owner the namespace for 1h
      And a pipeline to which the owner delegated apply for 30s
      When the pipeline signs and applies a deployment of the page that stops on expiry
      Then the page is served from a device
      And the site ends when the delegation ends, and not before
      And nothing runs for it

    Scenario: The owner is told ahead of time
      Given the provider grants the owner the namespace for 40s
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      And the condition TokenVerified is True because of TokenExpiringSoon
      And one Event tells that the grant ends soon, and what to run

    Scenario: All that ends within 30 days is renewed in one go
      Given the provider grants the owner the namespace for 48h
      And a folder with a signed deployment and one that is good for long
      When the provider grants the owner the namespace for 720h
      And the owner renews what ends within 30d in the folder
      Then only the one that ends soon was signed again, and nothing else in it changed

  Rule: The grant, or a link of its chain, is revoked.

    Scenario: The provider takes a grant back, and what rests on it stops
      Given the provider grants the owner the namespace for 1h
      When the owner signs and applies a deployment of the page
      Then the page is served from a device
      When the provider takes the grant back
      Then the site ends
      And the condition TokenVerified is False because of Revoked
      And the owner is told "Ask the issuer for a new grant"
      And nothing runs for it

    Scenario: The owner takes a lost pipeline's right back, and the site goes back to what the owner signed
      Given the provider grants the owner the namespace for 1h
      And the owner's deployment of the page is served
      And a pipeline to which the owner delegated apply for this deployment alone
      When the pipeline signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      When the owner takes the pipeline's right back
      Then the page is served again, from the same deployment on the device
      And the owner is told "restored revision of"

    Scenario: The wallet takes a delegation back by its name
      Given an owner who signed in
      And the owner's deployment of the page is served
      And a pipeline to which the owner delegated apply for this deployment alone
      When the pipeline signs and applies an update to another page
      Then the other page is served, from the same deployment on the device
      When the owner revokes the delegation with the wallet
      Then the page is served again, from the same deployment on the device
