SELECT login AS customer_id, changed AS updated_at, mail AS email, first_name, opted_in, signup_ip AS opt_in_ip FROM people
