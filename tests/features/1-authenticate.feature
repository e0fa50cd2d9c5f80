Feature: 1. Authenticate
  Nobody gets anything without proving a DID. The sentences of the use case stand behind each "Rule".

  Its words are these here: the user is the owner; the device is the provider's actor, which owns the devices' grants; the
  access token is the grant, a delegation that names what may be done and until when; the user's own token is the owner's
  signed envelope with the right to answer it; counter-signed is the provider's reply, which rests on that right and opens
  nothing else.

  Background:
    Given a provider with a device and a store
    And an owner with a DID

  Rule: The user submits a DID, asks for permission to deploy, and sends a token addressed to the provider's DID that lets the provider authenticate its answer back, encrypted over libp2p.

    Scenario Outline: An owner signs in over <transport>
      Given the provider grants every DID to apply, publish, read, usage and delete in the owner's namespace for 720h
      When the owner signs in over <transport>
      Then the wallet says that apply, publish, read, usage and delete are granted in the owner's namespace for 720h
      And the provider has recorded one grant to the owner

      Examples:
        | transport |
        | libp2p    |
        | HTTP      |

    Scenario: What is addressed to another provider is not for this one
      Given the provider grants every DID to apply in the owner's namespace for 1h
      When the owner asks this provider for a challenge in an envelope addressed to another provider
      Then no challenge is given
      And the provider has recorded no grant to the owner

    Scenario Outline: A DID has one spelling: <spelling>
      Given the provider grants every DID to apply in the owner's namespace for 1h
      When the owner asks for a challenge under their DID <spelling>
      Then the provider refuses
      And the provider has recorded no grant to the owner

      Examples:
        | spelling              |
        | with a fragment       |
        | with percent signs    |
        | in upper case         |
        | in another multibase  |

  Rule: The provider sends a cryptographic challenge; the wallet signs it with the DID key; the provider verifies it against the DID document.

    Scenario: The provider composes the challenge, and it says what it is for
      Given the provider grants every DID to apply in the owner's namespace for 1h
      When the owner asks for a challenge to apply in their namespace
      Then the challenge names the owner's DID, the provider's DID, the namespace and what is asked for
      And the challenge ends within 5 minutes

    Scenario Outline: Only the right answer counts: <answer>
      Given the provider grants every DID to apply in the owner's namespace for 1h
      When the owner asks for a challenge to apply in their namespace
      And the challenge is answered with <answer>
      Then the provider refuses
      And the provider has recorded no grant to the owner

      Examples:
        | answer                                        |
        | the signature of another key                  |
        | a challenge that was given to another DID     |
        | a challenge of another provider               |
        | a challenge for another namespace             |
        | a challenge with one byte changed             |
        | a signature over the text without its prefix  |

    Scenario: A challenge is answered once
      Given the provider grants every DID to apply in the owner's namespace for 1h
      When the owner asks for a challenge to apply in their namespace
      And the right answer is sent 64 times at once
      Then exactly one of them is granted
      And the provider has recorded one grant to the owner

  Rule: The provider returns an access token with the right to deploy and an expiry, and the user's own token counter-signed.

    Scenario: The grant and the counter-signed answer are what the use case says
      Given the provider grants every DID to apply, read in the owner's namespace for 48h
      When the owner signs in over libp2p
      Then the grant is issued by the provider, to the owner, for use at the provider
      And the grant gives apply, read in the owner's namespace and ends within 48h
      And the answer was signed by the provider, by the right that the owner's own token gave it

    Scenario: A counter-signed answer opens nothing
      Given the provider grants every DID to apply in the owner's namespace for 1h
      And a page
      And another owner whose deployment serves the same page
      When the owner asks for a challenge and lets the provider answer by a token for everything
      Then what comes back opens neither the provider nor the device

    Scenario: Nobody is granted more than the provider's policy says
      Given the provider grants only another DID to apply in the owner's namespace
      When the owner signs in over libp2p
      Then the command fails and says why and what to do next
      And the provider has recorded no grant to the owner

  Rule: The user stores it and provides it in all later requests until it, or any link of its chain, expires or is revoked.

    Scenario: A grant that was handed over is provided with a request, and the request counts until the grant ends
      Given the provider grants the owner the namespace for 2h
      And a page
      When the owner signs and applies a deployment of the page
      Then the deployment is accepted as signed by the owner
      And it counts until the grant ends

    Scenario: After signing in the wallet provides the grant by itself
      Given the provider grants every DID to apply, publish, read, usage and delete in the owner's namespace for 720h
      And a page
      When the owner signs in over HTTP
      Then the wallet keeps the grant where only the owner can read it
      And whoami shows the owner's DID
      And grants lists the grant with what it gives and until when
      When the owner signs and applies a deployment of the page by the stored grant
      Then the page is served from a device

    Scenario: A part of the grant is passed on and opens no more than that
      Given the provider grants every DID to apply, publish, read, usage and delete in the owner's namespace for 720h
      And a page
      When the owner signs in over HTTP
      And the owner delegates apply for one name to a pipeline for 7d
      And the pipeline signs and applies a deployment of the page under that name
      Then the page is served from a device
      When the pipeline signs and applies a deployment of the page under another name
      Then it is denied because of CapabilityMissing
      And neither the device nor the store has heard of it
