-- A request stays as long as the person is to stay unknown to Mailchimp; deleting its row lets them be sent again.
SELECT
    erasure_requests.request_id AS erasure_id,
    erasure_requests.requested_at,
    erasure_requests.customer_id,
    erasure_requests.email
FROM erasure_requests
